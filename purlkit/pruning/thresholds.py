"""Where one layer is cut. The paper's rule removes what lies under alpha standard deviations; its rival, a share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


def sigma(weight: Tensor, alive: Tensor) -> float:
    """The population standard deviation over the surviving weights; 0 where none survives."""
    surviving = weight.detach()[alive]
    return float(surviving.double().std(correction=0)) if surviving.numel() else 0.0


@torch.no_grad()
def keep_above(weight: Tensor, alpha: float, alive: Tensor | None = None) -> Tensor:
    """Which weights stay when every surviving w with abs(w) < alpha * sigma goes.

    `alive` says which weights survive so far (the non-zeros when left out): sigma is taken over those, and the others
    stay removed. The comparison is strict, so alpha 0 removes nothing.
    """
    alive = weight != 0 if alive is None else alive
    # In double precision, so that the cut stands where the real numbers put it and not at a rounded threshold.
    return alive & ~(weight.double().abs() < alpha * sigma(weight, alive))


@torch.no_grad()
def keep_largest(weight: Tensor, share: float, alive: Tensor | None = None) -> Tensor:
    """Which weights stay when the smallest go until `share` of the layer is removed, to the nearest weight.

    What is removed already counts towards the share. The largest weight stays under any share below 1.
    """
    alive = weight != 0 if alive is None else alive
    return alive & ~(standing(weight, alive) < share)


def in_sigmas(weight: Tensor, alive: Tensor) -> Tensor:
    """Each weight's size in standard deviations of its layer."""
    return weight.double().abs() / sigma(weight, alive)


def standing(weight: Tensor, alive: Tensor) -> Tensor:
    """Each weight's place in the order of its layer, from 0 to 1: a share above it removes the weight.

    A place is the middle of the weight's own n-th part of the layer, so that a share is rounded to the nearest number
    of weights. What is removed comes first, and of equal weights the first in the layer last.
    """
    size = weight.detach().double().abs().masked_fill(~alive, -1).flatten()
    falling = size.sort(descending=True, stable=True).indices
    n = len(size)
    places = torch.empty_like(size)
    places[falling] = (n - 0.5 - torch.arange(n, dtype=size.dtype, device=size.device)) / n
    places[falling[0]] = 1.0
    return places.view(weight.shape)


@dataclass(frozen=True)
class Criterion:
    """What an action means: which weights stay at this alpha, and at which alpha each weight would go."""

    keep: Callable[[Tensor, float, Tensor | None], Tensor]
    goes_at: Callable[[Tensor, Tensor], Tensor]


CRITERIA: Mapping[str, Criterion] = {
    "std": Criterion(keep_above, in_sigmas),
    "magnitude_target": Criterion(keep_largest, standing),
}
