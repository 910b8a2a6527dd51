"""Cutting a whole network to an exact number of weights: one ranking over every layer, with a floor under each.

A weight that is zero already is removed and stays so. Every layer keeps at least its largest weight, for a layer with
none cuts the network in two.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from purlkit.errors import UnreachableSparsity
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask


def sparsity_range(layers: Sequence[PrunableLayer]) -> tuple[float, float]:
    """The lowest and the highest sparsity that structure allows: the zeros there are, and one weight in each layer."""
    fewest, most, total = _bounds(layers)
    return (total - most) / total, (total - fewest) / total


def weights_to_keep(layers: Sequence[PrunableLayer], sparsity: float) -> int:
    """How many weights stay at exactly this sparsity; raises UnreachableSparsity with the range."""
    fewest, most, total = _bounds(layers)
    count = total - round(sparsity * total)
    if not fewest <= count <= most:
        low, high = sparsity_range(layers)
        raise UnreachableSparsity(asked=sparsity, low=low, high=high)
    return count


def _bounds(layers: Sequence[PrunableLayer]) -> tuple[int, int, int]:
    alive = [int(layer.weight.detach().count_nonzero()) for layer in layers]
    return sum(count > 0 for count in alive), sum(alive), sum(layer.weight.numel() for layer in layers)


def floors(layers: Sequence[PrunableLayer]) -> Mask:
    """The largest weight of each layer (the first of equals); nothing of a layer that is all zeros."""
    keep = {}
    for layer in layers:
        size = layer.weight.detach().abs().flatten()
        largest = torch.zeros_like(size, dtype=torch.bool)
        largest[size.argmax()] = True
        keep[layer.name] = (largest & (size > 0)).view(layer.weight.shape)
    return Mask(keep)


@torch.no_grad()
def keep_highest(layers: Sequence[PrunableLayer], scores: Sequence[Tensor], count: int) -> Mask:
    """Keeps `count` weights: each layer's floor, then the highest scores of the network.

    Equal scores are taken by layer, then by index, so that the count is met exactly and always by the same weights.
    """
    floor = torch.cat([keep.flatten() for keep in floors(layers).keep.values()])
    alive = torch.cat([layer.weight.flatten() != 0 for layer in layers])
    ranked = torch.cat([score.double().flatten() for score in scores])
    keep = floor.clone()
    open_ = (alive & ~floor).nonzero().squeeze(1)
    wanted = count - int(floor.sum())
    if wanted:
        candidates = ranked[open_]
        cut = candidates.kthvalue(len(candidates) - wanted + 1).values
        above = candidates > cut
        ties = (candidates == cut).nonzero().squeeze(1)[: wanted - int(above.sum())]
        keep[open_[above]] = True
        keep[open_[ties]] = True
    parts = keep.split([layer.weight.numel() for layer in layers])
    return Mask({layer.name: part.view(layer.weight.shape) for layer, part in zip(layers, parts, strict=True)})
