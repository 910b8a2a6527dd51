"""Top-1 accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from purlkit.training.data import Images


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


def correct(model: nn.Module, images: Images, batch: int = 1000, on_batch: Callable[[], None] | None = None) -> Tensor:
    """For each image whether the model names its class. An answer that is not finite is wrong."""
    right = torch.empty(len(images), dtype=torch.bool, device=images.device)
    with mode(model, training=False), torch.inference_mode():
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            answers = model(images.x[part])
            right[part] = (answers.argmax(1) == images.y[part]) & answers.isfinite().all(1)
            if on_batch is not None:
                on_batch()
    return right


def accuracy(model: nn.Module, images: Images, on_batch: Callable[[], None] | None = None) -> float:
    """Share of the images whose class the model names."""
    return int(correct(model, images, on_batch=on_batch).sum()) / len(images)
