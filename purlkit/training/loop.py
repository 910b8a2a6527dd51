"""The one training loop: the dense network, the retraining after each cut, and the fine-tuning all go through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from purlkit.errors import Diverged, InvalidSpec
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.spec import Training
from purlkit.training.data import Samples, batches, steps_per_epoch
from purlkit.training.evaluate import mode
from purlkit.training.generators import seeded
from purlkit.training.paused import Paused, go_on, pause

# Not a number, or what no network that still learns comes near: guessing among a million classes gives 14.
HOPELESS_LOSS = 1e4


def train(
    model: nn.Module,
    images: Samples,
    training: Training,
    *,
    seed: int,
    mask: Mask | None = None,
    shrink: Callable[[int], Mask] | None = None,
    on_batch: Callable[[], None] | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
    paused: Paused | None = None,
    stop: Callable[[int], bool] | None = None,
    at: str | None = None,
) -> Paused | None:
    """A cosine over all steps, by an optimiser of its own.

    `seed` decides the order of the images and all else that is random; every generator is left as it was. What `mask`
    removes is zero before, after, and after every step. `shrink(epoch)` says before each epoch, counted from 0, what
    stays of the network as it is then; nothing comes back. `on_batch()` follows each step and may raise to stop;
    `on_epoch(done, of)` follows each epoch. One number is read back from the device for each epoch, its last loss: one
    that is hopeless raises Diverged, which blames the field `at` of the spec.

    `stop(done)` is asked after each epoch but the last; where it says yes the training stops, and what is returned goes
    on as `paused` with the same model and arguments, to the same bits as if it had never stopped.
    """
    layers = prunable_layers(model)
    mask = mask or Mask.dense(layers)
    mask.apply(layers)
    hold = mask.holder(layers)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        remedy = "call requires_grad_(True) on it, or on the part to train"
        raise InvalidSpec(
            "every parameter of the network is frozen, so there is nothing to train", at=at, remedy=remedy
        )
    optimizer = _optimizer(parameters, training)
    order = torch.Generator().manual_seed(seed)
    steps = training.epochs * steps_per_epoch(len(images), training.batch_size)
    step, first = 0, 0
    with seeded(seed, images.device), mode(model, training=True):
        if paused is not None:
            go_on(paused, optimizer, order, images.device)
            step, first = paused.epochs * steps_per_epoch(len(images), training.batch_size), paused.epochs
        try:
            for epoch in range(first, training.epochs):
                if shrink is not None:
                    mask = mask & shrink(epoch)
                    mask.apply(layers)
                    _forget(optimizer, layers, mask)
                    hold = mask.holder(layers)
                for batch in batches(images, training.batch_size, order):
                    optimizer.param_groups[0]["lr"] = cosine(training.learning_rate, step, steps)
                    optimizer.zero_grad()
                    with products_in(training.precision, images.device):
                        answers, smoothing = model(batch.x), training.label_smoothing
                        loss = functional.cross_entropy(answers, batch.y, label_smoothing=smoothing)
                    loss.backward()
                    hold()
                    optimizer.step()
                    step += 1
                    if on_batch is not None:
                        on_batch()
                if not loss < HOPELESS_LOSS:
                    told = f"the training diverged in epoch {epoch + 1} of {training.epochs}"
                    diverged = Diverged(told, at=at, remedy="lower its learning_rate")
                    diverged.epoch = epoch + 1
                    raise diverged
                if on_epoch is not None:
                    on_epoch(epoch + 1, training.epochs)
                if stop is not None and epoch + 1 < training.epochs and stop(epoch + 1):
                    return pause(epoch + 1, optimizer, order, images.device)
        finally:
            optimizer.zero_grad()
            # A run that diverged has NaN for gradients, and NaN times zero is NaN: removed stays removed even then.
            mask.apply(layers)
    return None


def products_in(precision: str, device: torch.device) -> torch.autocast:
    """Said by the spec alone: a choice by a time that was taken would give other bits on the next run.

    Entered anew for each step, for autocast remembers the rounded weights until it is left.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _optimizer(parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """Either leaves a zero without a gradient at zero: decay is a part of the gradient, and momentum starts new."""
    rate, momentum, decay = training.learning_rate, training.momentum, training.weight_decay
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, betas=(momentum, 0.999), weight_decay=decay, foreach=True)
    return torch.optim.SGD(
        parameters, lr=rate, momentum=momentum, weight_decay=decay, nesterov=momentum > 0, foreach=True
    )


def _forget(optimizer: torch.optim.Optimizer, layers: Sequence[PrunableLayer], mask: Mask) -> None:
    """A weight removed while its momentum runs would be carried away from zero by it."""
    for layer in layers:
        for moments in optimizer.state.get(layer.weight, {}).values():
            if isinstance(moments, torch.Tensor) and moments.shape == layer.weight.shape:
                moments.masked_fill_(~mask.keep[layer.name], 0)


def cosine(rate: float, step: int, steps: int) -> float:
    """From `rate` at step 0 down to 0 after the last."""
    return rate * (1 + math.cos(math.pi * step / steps)) / 2
