"""A target of multiply-adds instead of weights: every method is cut at the sparsity at which so many are gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from purlkit.errors import InvalidSpec, UnreachableFlops
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import bounds

# How near every method is brought, in shares of all multiply-adds; nearer than any comparison asks for.
FLOPS_TOLERANCE = 0.0001

Made = TypeVar("Made")
Uses = Mapping[str, int]  # of cost.weight_uses


def share_removed(mask: Mask, uses: Uses) -> float:
    """Of the multiply-adds of convolutions and linear layers, for one image."""
    dense = sum(total * uses[name] for name, (_, total) in mask.per_layer.items())
    left = sum(kept * uses[name] for name, (kept, _) in mask.per_layer.items())
    return (dense - left) / dense


def flops_range(layers: Sequence[PrunableLayer], uses: Uses) -> tuple[float, float]:
    """The lowest and the highest share that structure allows: the zeros there are, and one weight in each layer."""
    kept = dict(zip((layer.name for layer in layers), bounds(layers), strict=True))
    dense = sum(layer.weight.numel() * uses[layer.name] for layer in layers)
    if not dense:
        told = "this network multiplies in ways of its own, so no multiply-adds were counted"
        raise InvalidSpec(told, at="/targets/flops", remedy="ask for a sparsity")
    most, fewest = (sum(kept[name][end] * uses[name] for name in kept) for end in (1, 0))
    return (dense - most) / dense, (dense - fewest) / dense


def check_reachable(layers: Sequence[PrunableLayer], uses: Uses, target: float) -> None:
    low, high = flops_range(layers, uses)
    if not low <= target <= high:
        raise UnreachableFlops(asked=target, low=low, high=high)


def cut_to_flops(
    make: Callable[[float], Made],
    mask_of: Callable[[Made], Mask],
    layers: Sequence[PrunableLayer],
    uses: Uses,
    target: float,
) -> Made:
    """What `make` gives at the sparsity whose mask removes a share of `target` of the multiply-adds.

    By bisection over the number of weights that stay: the fewer stay, the fewer multiply-adds are left, as long as a
    method takes weights away in an order of its own. Ends within the tolerance, else at the nearest that it met.
    """
    check_reachable(layers, uses, target)
    total, kept = sum(layer.weight.numel() for layer in layers), bounds(layers)
    low, high = sum(fewest for fewest, _ in kept), sum(most for _, most in kept)
    best: tuple[float, Made] | None = None
    while low <= high:
        count = (low + high) // 2
        made = make((total - count) / total)
        off = share_removed(mask_of(made), uses) - target
        if best is None or abs(off) < best[0]:
            best = abs(off), made
        if best[0] <= FLOPS_TOLERANCE:
            break
        low, high = (count + 1, high) if off > 0 else (low, count - 1)
    assert best is not None
    return best[1]
