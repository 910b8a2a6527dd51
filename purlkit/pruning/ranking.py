"""Cutting a whole network to an exact number of weights: one ranking over every layer, with a floor under each.

A weight that is zero already is removed and stays so. A layer without weights cuts the network in two, so every layer
keeps at least its `floor` largest: one, unless more are asked for. With a floor of 0 a method is free to empty a layer,
and then its mask is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from purlkit.errors import CollapsedLayer, InvalidSpec, UnreachableSparsity, WeightsDontFit
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask


def sparsity_range(layers: Sequence[PrunableLayer], floor: int = 1) -> tuple[float, float]:
    """The lowest and the highest sparsity that structure allows: the zeros there are, and the floor of each layer."""
    total, kept = sum(layer.weight.numel() for layer in layers), bounds(layers, floor)
    return (total - sum(most for _, most in kept)) / total, (total - sum(fewest for fewest, _ in kept)) / total


def weights_to_keep(layers: Sequence[PrunableLayer], sparsity: float, floor: int = 1) -> int:
    """How many weights stay at exactly this sparsity; raises UnreachableSparsity with the range."""
    total, kept = sum(layer.weight.numel() for layer in layers), bounds(layers, floor)
    # What is no share at all is out of every range; so is NaN, which compares with nothing.
    count = total - round(sparsity * total) if 0 <= sparsity <= 1 else -1
    if not sum(fewest for fewest, _ in kept) <= count <= sum(most for _, most in kept):
        low, high = sparsity_range(layers, floor)
        raise UnreachableSparsity(asked=sparsity, low=low, high=high)
    return count


def bounds(layers: Sequence[PrunableLayer], floor: int = 1) -> list[tuple[int, int]]:
    """For each layer the fewest and the most weights that it may keep: its floor, and those that are not zero.

    Of a weight without values, on the meta device, none is taken to be zero.
    """
    if floor < 0:
        raise InvalidSpec("a layer can't keep fewer than no weights", remedy="give a floor of 0 or more")
    for layer in layers:
        if not layer.weight.is_meta and not bool(layer.weight.detach().isfinite().all()):
            raise WeightsDontFit(
                f"the weights of {layer.name} are not finite", at="/model/weights", remedy="give a network that works"
            )
    alive = [
        layer.weight.numel() if layer.weight.is_meta else int(layer.weight.detach().count_nonzero()) for layer in layers
    ]
    return [(min(floor, count), count) for count in alive]


def floors(layers: Sequence[PrunableLayer], floor: int = 1) -> Mask:
    """The `floor` largest weights of each layer (of equals the first), and never a zero."""
    return largest(layers, [fewest for fewest, _ in bounds(layers, floor)])


def largest(layers: Sequence[PrunableLayer], counts: Sequence[int]) -> Mask:
    """So many of the largest weights of each layer (of equals the first)."""
    return Mask(
        {
            layer.name: highest(layer.weight.detach().abs().flatten(), count).view(layer.weight.shape)
            for layer, count in zip(layers, counts, strict=True)
        }
    )


def highest(scores: Tensor, count: int) -> Tensor:
    """Where the `count` highest of a row of scores are; of equals the first, so that the count is always met."""
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    cut = scores.kthvalue(len(scores) - count + 1).values
    keep = scores > cut
    ties = (scores == cut).nonzero().squeeze(1)
    keep[ties[: count - int(keep.sum())]] = True
    return keep


@torch.no_grad()
def keep_highest(layers: Sequence[PrunableLayer], scores: Sequence[Tensor], count: int, floor: int = 1) -> Mask:
    """Keeps `count` weights: each layer's floor, then the highest scores of the network.

    Equal scores are taken by layer, then by index, so that the count is met exactly and always by the same weights.
    """
    keep = torch.cat([kept.flatten() for kept in floors(layers, floor).keep.values()])
    alive = torch.cat([layer.weight.flatten() != 0 for layer in layers])
    ranked = torch.cat([score.double().flatten() for score in scores])
    open_ = (alive & ~keep).nonzero().squeeze(1)
    keep[open_] = highest(ranked[open_], count - int(keep.sum()))
    parts = keep.split([layer.weight.numel() for layer in layers])
    shaped = {layer.name: part.view(layer.weight.shape) for layer, part in zip(layers, parts, strict=True)}
    return refuse_collapse(layers, Mask(shaped))


def refuse_collapse(layers: Sequence[PrunableLayer], mask: Mask) -> Mask:
    """The same mask, if no layer that has weights loses them all; raises CollapsedLayer with the names of those."""
    emptied = [layer.name for layer in layers if bool(layer.weight.any()) and not bool(mask.keep[layer.name].any())]
    if emptied:
        raise CollapsedLayer(emptied)
    return mask
