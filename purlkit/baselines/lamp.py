"""LAMP, layer-adaptive magnitude pruning: one threshold over scores that compare a weight with its own layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import keep_highest, weights_to_keep


def lamp(layers: Sequence[PrunableLayer], sparsity: float, *, floor: int = 1) -> Mask:
    """Removes the weights of the lowest scores in the whole network until exactly `sparsity` is met.

    A layer's single largest weight scores 1 whatever its size, so nothing but ties ever brings a layer to its floor.
    """
    count = weights_to_keep(layers, sparsity, floor)
    return keep_highest(layers, [lamp_scores(layer.weight) for layer in layers], count, floor)


@torch.no_grad()
def lamp_scores(weight: Tensor) -> Tensor:
    """A weight's square over the sum of squares of the weights of its layer that are not smaller; itself included.

    Equal weights count for one another and have equal scores.
    """
    # In double precision: squares of small float32 weights would vanish, and a large layer's sum lose them.
    squares = weight.double().square().flatten()
    rising = squares.sort().values
    not_smaller = rising.flip(0).cumsum(0).flip(0)
    first_of_equals = torch.searchsorted(rising, squares)
    return (squares / not_smaller[first_of_equals]).view(weight.shape)
