"""Batch norm's running statistics, measured anew: those of the dense network don't fit what pruning left of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from purlkit.training.data import Samples, steps_per_epoch
from purlkit.training.evaluate import mode


def reestimate(
    model: nn.Module, images: Samples, *, batch_size: int = 100, on_batch: Callable[[], None] | None = None
) -> None:
    """Every running mean and variance becomes the plain average over the batches of these images, taken in order.

    No weight moves, and all else behaves as in evaluation: nothing is dropped out. A norm without running statistics
    has none to measure, and a network without norms is left alone.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    # Even batches: a single image may have no variance.
    parts = torch.arange(len(images), device=images.device).tensor_split(steps_per_epoch(len(images), batch_size))
    with mode(model, training=False), torch.no_grad():
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # torch's word for the plain average
                norm.train()
            for part in parts:
                model(images[part].x)
                if on_batch is not None:
                    on_batch()
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
