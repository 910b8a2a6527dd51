"""Top-1 accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from purlkit.training.data import Samples

# At once: more of large images than this would fill the memory with the network's own maps.
IMAGES, PIXELS = 1000, 2**22


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode inside the block; each module is left as it was before."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was


def correct(
    model: nn.Module, images: Samples, batch: int | None = None, on_batch: Callable[[], None] | None = None
) -> Tensor:
    """For each image whether the model names its class. An answer that is not finite is wrong."""
    batch = batch or max(1, min(IMAGES, PIXELS // images.shape[1:].numel()))
    right = torch.empty(len(images), dtype=torch.bool, device=images.device)
    with mode(model, training=False), torch.inference_mode():
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            answers = model(part.x)
            right[start : start + batch] = (answers.argmax(1) == part.y) & answers.isfinite().all(1)
            if on_batch is not None:
                on_batch()
    return right


def accuracy(model: nn.Module, images: Samples, on_batch: Callable[[], None] | None = None) -> float:
    """Share of the images whose class the model names."""
    return int(correct(model, images, on_batch=on_batch).sum()) / len(images)
