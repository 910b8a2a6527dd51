"""The paper's rule: remove what lies under alpha standard deviations of its layer."""

from __future__ import annotations

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
