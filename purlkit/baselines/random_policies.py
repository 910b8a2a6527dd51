"""Random search: what a search gets from trying so often, without having learnt anything."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from purlkit.baselines.scoring import Score
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from purlkit.pruning.policy import mask_for_alphas
from purlkit.spec import DEVIATIONS


def random_policies(
    layers: Sequence[PrunableLayer],
    sparsity: float,
    *,
    score: Score,
    episodes: int = 55,
    alphas: Sequence[float] = DEVIATIONS,
    criterion: str = "std",
    seed: int = 0,
    floor: int = 1,
) -> Mask:
    """The best by `score` of so many policies, each a random action of PuRL's for every layer; of equals the first.

    Each is scaled to exactly `sparsity` before it is tried, as PuRL's own policy is at the end.
    """
    policies = draw(alphas, len(layers), episodes, seed)
    masks = (mask_for_alphas(layers, p, target=sparsity, criterion=criterion, floor=floor).mask for p in policies)
    return max(masks, key=score)


def draw(alphas: Sequence[float], layers: int, episodes: int, seed: int) -> Iterator[list[float]]:
    """The policies themselves: for each episode an alpha for every layer."""
    choose = random.Random(seed)
    return (choose.choices(alphas, k=layers) for _ in range(episodes))
