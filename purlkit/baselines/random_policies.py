"""Random search: what a search gets from trying so often, without having learnt anything."""

from __future__ import annotations

import random
from collections.abc import Sequence

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
    seed: int = 0,
    floor: int = 1,
) -> Mask:
    """The best by `score` of so many policies, each a random action of PuRL's for every layer; of equals the first.

    Each is scaled to exactly `sparsity` before it is tried, as PuRL's own policy is at the end.
    """
    choose = random.Random(seed)
    policies = (choose.choices(alphas, k=len(layers)) for _ in range(episodes))
    masks = (mask_for_alphas(layers, policy, target=sparsity, floor=floor).mask for policy in policies)
    return max(masks, key=score)
