"""What a mask is worth to a method that tries many: the accuracy that a short training leaves on the reward split."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.seeds import derive
from purlkit.spec import Retrain
from purlkit.training.data import Splits, subset
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train

Score = Callable[[Mask], float]


def by_reward_split(
    model: nn.Module,
    splits: Splits,
    retrain: Retrain | None,
    *,
    seed: int,
    on_batch: Callable[[], None] | None = None,
) -> Score:
    """Prunes `model` as it is now by a mask, retrains it as PuRL's search does after a cut, and measures it.

    None measures it as it was cut. The model is put back after each mask, and equal masks have equal scores.
    """
    layers = prunable_layers(model)
    live = [*model.parameters(), *model.buffers()]
    before = [tensor.detach().clone() for tensor in live]
    images = None if retrain is None else subset(splits.train, retrain.images, seed)

    def score(mask: Mask) -> float:
        try:
            mask.apply(layers)
            if retrain is not None and images is not None:
                train(model, images, retrain, seed=derive(seed, "retrain"), mask=mask, on_batch=on_batch)
            return accuracy(model, splits.reward, on_batch)
        finally:
            with torch.no_grad():
                torch._foreach_copy_(live, before)

    return score
