"""The one training loop: the dense network, the retraining after each cut, and the fine-tuning all go through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from purlkit.errors import Diverged, InvalidSpec
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.seeds import derive
from purlkit.spec import Training
from purlkit.training.data import ALL, Samples, Share, batches, steps_per_epoch
from purlkit.training.evaluate import mode
from purlkit.training.generators import seeded
from purlkit.training.optimisers import SGD, Adam
from purlkit.training.paused import Paused, go_on, pause
from purlkit.training.together import Team, learning

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
    pause_when: Callable[[], bool] | None = None,
    team: Team | None = None,
    at: str | None = None,
) -> Paused | None:
    """A cosine over all steps, by an optimiser of its own.

    `seed` decides the order of the images and all else that is random; every generator is left as it was. What `mask`
    removes is zero before, after, and after every step. `shrink(epoch)` says before each epoch, counted from 0, what
    stays of the network as it is then; nothing comes back. `on_batch()` follows each step and may raise to stop;
    `on_epoch(done, of)` follows each epoch. One number is read back from the device for each epoch, its last loss: one
    that is hopeless raises Diverged, which blames the field `at` of the spec.

    `stop(done)` is asked after each epoch but the last, `pause_when()` after each step within an epoch; where one says
    yes the training stops, and what is returned goes on as `paused` with the same model and arguments, to the same bits
    as if it had never stopped.

    In a `team` every process calls this with its own copy of the model and the same arguments, and takes its share of
    each batch; all end with the same weights. The first of them decides when to stop.
    """
    if shrink is not None and pause_when is not None:
        raise ValueError("what shrinks stops between epochs only: it would shrink again in the middle of one")
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
    per_epoch = steps_per_epoch(len(images), training.batch_size)
    steps = training.epochs * per_epoch
    share = ALL if team is None else team.share
    first, skip = 0, 0
    # Each process draws what its own images need.
    own = derive(seed, "worker", share.rank) if share.rank else seed
    with seeded(own, images.device), mode(model, training=True), learning(model, team) as learner:
        if paused is not None:
            go_on(paused, optimizer, order, images.device, team=team)
            first, skip = paused.epochs, paused.batches
        step = first * per_epoch + skip
        try:
            for epoch in range(first, training.epochs):
                if shrink is not None:
                    mask = mask & shrink(epoch)
                    mask.apply(layers)
                    _forget(optimizer, layers, mask)
                    hold = mask.holder(layers)
                begun = order.get_state()
                for batch in batches(images, training.batch_size, order, share=share, skip=skip):
                    optimizer.param_groups[0]["lr"] = cosine(training.learning_rate, step, steps)
                    optimizer.zero_grad()
                    with products_in(training.precision, images.device):
                        loss = _loss(learner(batch.x), batch.y, training, share, _whole(len(images), per_epoch, step))
                    loss.backward()
                    hold()
                    optimizer.step()
                    step += 1
                    if on_batch is not None:
                        on_batch()
                    done = step - epoch * per_epoch
                    if pause_when is not None and done < per_epoch and _all_say(team, pause_when):
                        return pause(epoch, optimizer, begun, images.device, batches=done, team=team)
                skip = 0
                if not (loss if team is None else team.mean(loss)) < HOPELESS_LOSS:
                    told = f"the training diverged in epoch {epoch + 1} of {training.epochs}"
                    diverged = Diverged(told, at=at, remedy="lower its learning_rate")
                    diverged.epoch = epoch + 1
                    raise diverged
                if on_epoch is not None:
                    on_epoch(epoch + 1, training.epochs)
                if stop is not None and epoch + 1 < training.epochs and _all_say(team, partial(stop, epoch + 1)):
                    return pause(epoch + 1, optimizer, order.get_state(), images.device, team=team)
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


def _loss(answers: Tensor, y: Tensor, training: Training, share: Share, whole: int) -> Tensor:
    """The mean over the batch. Of a share so much that the mean over the team is the mean over the whole batch."""
    if share.of == 1:
        return functional.cross_entropy(answers, y, label_smoothing=training.label_smoothing)
    total = functional.cross_entropy(answers, y, label_smoothing=training.label_smoothing, reduction="sum")
    return total * (share.of / whole)


def _whole(images: int, per_epoch: int, step: int) -> int:
    """Images of this step's batch, everybody's together."""
    return images // per_epoch + (step % per_epoch < images % per_epoch)


def _all_say(team: Team | None, stop: Callable[[], bool]) -> bool:
    return stop() if team is None else team.agree(stop())


def _optimizer(parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """Either leaves a zero without a gradient at zero: decay is a part of the gradient, and momentum starts new."""
    rate, momentum, decay = training.learning_rate, training.momentum, training.weight_decay
    if training.optimizer == "adam":
        return Adam(parameters, lr=rate, betas=(momentum, 0.999), weight_decay=decay, foreach=True)
    return SGD(parameters, lr=rate, momentum=momentum, weight_decay=decay, nesterov=momentum > 0, foreach=True)


def _forget(optimizer: torch.optim.Optimizer, layers: Sequence[PrunableLayer], mask: Mask) -> None:
    """A weight removed while its momentum runs would be carried away from zero by it."""
    for layer in layers:
        for moments in optimizer.state.get(layer.weight, {}).values():
            if isinstance(moments, torch.Tensor) and moments.shape == layer.weight.shape:
                moments.masked_fill_(~mask.keep[layer.name], 0)


def cosine(rate: float, step: int, steps: int) -> float:
    """From `rate` at step 0 down to 0 after the last."""
    return rate * (1 + math.cos(math.pi * step / steps)) / 2
