"""From one alpha for each layer to a mask: as the search chose them, or scaled so that the target is met exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import floors, keep_highest, refuse_collapse, sparsity_range, weights_to_keep
from purlkit.pruning.thresholds import CRITERIA, Criterion

__all__ = ["PolicyMask", "mask_for_alphas", "mean_alphas", "sparsity_range"]


@dataclass(frozen=True)
class PolicyMask:
    """A policy applied: `alphas` are those that were really cut at, and `note` is what a reader must know of them."""

    mask: Mask
    alphas: tuple[float, ...]
    note: str | None


def mean_alphas(walks: Iterable[Sequence[int]], grid: Sequence[float]) -> list[float]:
    """The policy: for each layer the mean of the alphas that the trained agent chose in its greedy walks."""
    chosen = [[grid[action] for action in actions] for actions in walks]
    return [sum(column) / len(column) for column in zip(*chosen, strict=True)]


@torch.no_grad()
def mask_for_alphas(
    layers: Sequence[PrunableLayer],
    alphas: Sequence[float],
    *,
    target: float | None,
    criterion: str = "std",
    floor: int = 1,
) -> PolicyMask:
    """Cuts every layer at its alpha; with a target, at alphas changed together until the sparsity is exactly that.

    First by one common factor, which leaves an alpha of 0 at 0. Where those layers alone hold too many weights, by one
    number added to every alpha instead. Either way the exact cut is a ranking: with a factor f a weight goes when
    abs(w) / (alpha * sigma) < f, with a shift s when abs(w) / sigma - alpha < s. The other criterion has the weight's
    standing in its layer where this one has abs(w) / sigma.
    """
    rule = CRITERIA[criterion]
    if target is None:
        return _as_they_are(layers, alphas, rule, floor)
    count = weights_to_keep(layers, target, floor)
    sizes = [rule.goes_at(layer.weight, layer.weight != 0) for layer in layers]

    ratios = [size / alpha for size, alpha in zip(sizes, alphas, strict=True)]
    if _out_of_reach(layers, ratios, floor) <= count:
        mask = keep_highest(layers, ratios, count, floor)
        factor, note = _cut(layers, ratios, mask, floor)
        said = f"alphas scaled by {factor:.4g} to meet the target exactly"
        return PolicyMask(mask, tuple(factor * alpha for alpha in alphas), said + note)

    excess = [size - alpha for size, alpha in zip(sizes, alphas, strict=True)]
    mask = keep_highest(layers, excess, count, floor)
    shift, note = _cut(layers, excess, mask, floor)
    said = f"no common factor on the alphas reaches the target (0 stays 0), so {shift:.4g} was added to each"
    return PolicyMask(mask, tuple(alpha + shift for alpha in alphas), said + note)


def _as_they_are(layers: Sequence[PrunableLayer], alphas: Sequence[float], rule: Criterion, least: int) -> PolicyMask:
    floor = floors(layers, least)
    kept = {layer.name: rule.keep(layer.weight, alpha, None) for layer, alpha in zip(layers, alphas, strict=True)}
    emptied = sum(bool(floor.keep[name].any()) and not bool(keep.any()) for name, keep in kept.items())
    mask = Mask({name: keep | floor.keep[name] for name, keep in kept.items()})
    return PolicyMask(refuse_collapse(layers, mask), tuple(alphas), _about_floors(emptied) or None)


def _out_of_reach(layers: Sequence[PrunableLayer], scores: Sequence[Tensor], least: int) -> int:
    """How many weights no factor removes: the floors, and what has an infinite score."""
    floor = floors(layers, least)
    return sum(
        int((floor.keep[layer.name] | (score.isinf() & (layer.weight != 0))).sum())
        for layer, score in zip(layers, scores, strict=True)
    )


def _cut(layers: Sequence[PrunableLayer], scores: Sequence[Tensor], mask: Mask, least: int) -> tuple[float, str]:
    """The number between the scores that went and those that stayed, and what floors did against it."""
    floor = floors(layers, least)
    highest_removed, lowest_kept = 0.0, math.inf
    for layer, score in zip(layers, scores, strict=True):
        keep = mask.keep[layer.name]
        # A layer of equal weights has no deviation and so no finite score: no alpha describes a cut through it.
        removed = score[~keep & (layer.weight != 0) & score.isfinite()]
        stayed = score[keep & ~floor.keep[layer.name]]
        highest_removed = max(highest_removed, float(removed.max()) if removed.numel() else 0.0)
        lowest_kept = min(lowest_kept, float(stayed.min()) if stayed.numel() else math.inf)
    cut = (highest_removed + lowest_kept) / 2 if math.isfinite(lowest_kept) else highest_removed * (1 + 1e-9)
    saved = sum(bool((score[floor.keep[layer.name]] < cut).any()) for layer, score in zip(layers, scores, strict=True))
    return cut, _about_floors(saved, "; ")


def _about_floors(layers: int, before: str = "") -> str:
    return f"{before}{layers} of the layers would be empty and keep their largest weight" if layers else ""
