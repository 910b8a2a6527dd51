"""Top-1 and top-5 accuracy, and the loss beneath them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

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
    model: nn.Module,
    images: Samples,
    batch: int | None = None,
    on_batch: Callable[[], None] | None = None,
    *,
    top: int = 1,
) -> Tensor:
    """For each image whether its class is among the `top` that the model ranks first.

    An answer that is not finite is wrong.
    """
    batch = batch or max(1, min(IMAGES, PIXELS // images.shape[1:].numel()))
    right = torch.empty(len(images), dtype=torch.bool, device=images.device)
    with mode(model, training=False), torch.inference_mode():
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            answers = model(part.x)
            named = answers.argmax(1, keepdim=True) if top == 1 else answers.topk(top).indices
            right[start : start + batch] = (named == part.y[:, None]).any(1) & answers.isfinite().all(1)
            if on_batch is not None:
                on_batch()
    return right


def accuracy(model: nn.Module, images: Samples, on_batch: Callable[[], None] | None = None, *, top: int = 1) -> float:
    """Share of the images whose class is among the `top` that the model ranks first."""
    return int(correct(model, images, on_batch=on_batch, top=top).sum()) / len(images)


def cross_entropy(model: nn.Module, images: Samples, on_batch: Callable[[], None] | None = None) -> float:
    """The mean over the images: finer than accuracy where there are few. Infinite where an answer is not finite."""
    batch = max(1, min(IMAGES, PIXELS // images.shape[1:].numel()))
    total = 0.0
    with mode(model, training=False), torch.inference_mode():
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            total += float(functional.cross_entropy(model(part.x), part.y, reduction="sum"))
            if on_batch is not None:
                on_batch()
    mean = total / len(images)
    return mean if math.isfinite(mean) else math.inf


def top5_accuracy(model: nn.Module, images: Samples, on_batch: Callable[[], None] | None = None) -> float | None:
    """None where there are 5 classes or fewer, for then every answer would be right."""
    with mode(model, training=False), torch.inference_mode():
        classes = model(images[:1].x).shape[1]
    return accuracy(model, images, on_batch, top=5) if classes > 5 else None
