"""Gradual pruning: the sparsity rises by a cubic schedule while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from purlkit.baselines.global_magnitude import global_magnitude
from purlkit.baselines.layerwise import uniform
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import sparsity_range, weights_to_keep
from purlkit.spec import Training
from purlkit.training.data import Samples
from purlkit.training.loop import train

OnEpoch = Callable[[int, int], None]

# The last quarter of the epochs trains what is left at the full sparsity.
RAMP = 0.75


def global_gradual(
    model: nn.Module,
    images: Samples,
    sparsity: float,
    *,
    training: Training = Training(),
    seed: int = 0,
    floor: int = 1,
    on_epoch: OnEpoch | None = None,
) -> Mask:
    """Trains `model` in place, and before each epoch removes the smallest weights of the whole network as it is then.

    Trained or untrained, the model as given is where it starts: choose the rate to match. Three quarters through the
    epochs exactly `sparsity` is reached, and stays. What was removed never comes back.
    """
    cut = partial(global_magnitude, floor=floor)
    return _gradual(cut, model, images, sparsity, training, seed=seed, floor=floor, on_epoch=on_epoch)


def gmp(
    model: nn.Module,
    images: Samples,
    sparsity: float,
    *,
    training: Training = Training(),
    seed: int = 0,
    floor: int = 1,
    on_epoch: OnEpoch | None = None,
) -> Mask:
    """The same, but each layer loses the same share: the gradual pruning of "The State of Sparsity"."""
    cut = partial(uniform, floor=floor)
    return _gradual(cut, model, images, sparsity, training, seed=seed, floor=floor, on_epoch=on_epoch)


def cubic(sparsity: float, epoch: int, ramp: int) -> float:
    """s(t) = s_f * (1 - (1 - t/T)^3): most goes early, while the network is still easy to prune.

    >>> [cubic(1.0, epoch, 2) for epoch in range(4)]
    [0.0, 0.875, 1.0, 1.0]
    """
    return sparsity * (1 - (1 - epoch / ramp) ** 3) if epoch < ramp else sparsity


def _gradual(
    cut: Callable[[Sequence[PrunableLayer], float], Mask],
    model: nn.Module,
    images: Samples,
    sparsity: float,
    training: Training,
    *,
    seed: int,
    floor: int,
    on_epoch: OnEpoch | None,
) -> Mask:
    layers = prunable_layers(model)
    weights_to_keep(layers, sparsity, floor)  # out of reach is said now and not after hours of training
    ramp = min(round(RAMP * training.epochs), training.epochs - 1)
    mask = Mask.from_weights(layers)

    def shrink(epoch: int) -> Mask:
        nonlocal mask
        # The zeros there are may be more than the schedule asks for so early.
        mask = cut(layers, max(cubic(sparsity, epoch, ramp), sparsity_range(layers)[0]))
        return mask

    train(model, images, training, seed=seed, shrink=shrink, on_epoch=on_epoch)
    return mask
