"""How many weights each layer keeps, and moves that change the division and never the total."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from purlkit.pruning.apportion import apportion
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import bounds, weights_to_keep

Allocation = tuple[int, ...]


@dataclass(frozen=True)
class Budget:
    """What there is to divide, and the fewest and the most weights that each layer may keep."""

    total: int
    bounds: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, layers: Sequence[PrunableLayer], sparsity: float) -> Budget:
        return cls(weights_to_keep(layers, sparsity), tuple(bounds(layers)))

    def move(self, allocation: Allocation, layer: int, factor: float) -> Allocation:
        """One layer's part times a factor; the others give or take in proportion to what they have.

        >>> Budget(100, ((1, 50), (1, 90), (1, 90))).move((20, 50, 30), 0, 2.0)
        (40, 38, 22)
        >>> Budget(100, ((1, 30), (1, 90), (1, 90))).move((20, 50, 30), 0, 2.0)  # its size is the limit
        (30, 44, 26)
        """
        others = [pair for index, pair in enumerate(self.bounds) if index != layer]
        low, high = self.bounds[layer]
        low = max(low, self.total - sum(most for _, most in others))
        high = min(high, self.total - sum(fewest for fewest, _ in others))
        own = min(max(round(allocation[layer] * factor), low), high)
        # What holds nothing can't be scaled, but may be given something.
        shares = [max(count, 1) for index, count in enumerate(allocation) if index != layer]
        rest = apportion(self.total - own, shares, others)
        return (*rest[:layer], own, *rest[layer:])

    def divided(self, log_shares: Sequence[float]) -> Allocation:
        """The allocation in proportion to exp(log_shares), as nearly as bounds and wholeness allow."""
        highest = max(log_shares)
        # No layer of a network that can be built keeps less than one part in e^40, and a share of 0 can't be raised.
        shares = [Fraction(math.exp(max(share - highest, -40.0))) for share in log_shares]
        return tuple(apportion(self.total, shares, self.bounds))


def allocation_of(mask: Mask, layers: Sequence[PrunableLayer]) -> Allocation:
    return tuple(mask.per_layer[layer.name][0] for layer in layers)


def log_shares(allocation: Allocation) -> list[float]:
    """What `divided` undoes; a layer that keeps nothing counts as one that keeps one weight."""
    return [math.log(max(count, 1)) for count in allocation]
