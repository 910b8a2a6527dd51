"""Global magnitude pruning: one threshold for the whole network."""

from __future__ import annotations

from collections.abc import Sequence

from purlkit.errors import InvalidSpec, ThresholdTooHigh
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import bounds, keep_highest, sparsity_range, weights_to_keep


def global_magnitude(layers: Sequence[PrunableLayer], sparsity: float, *, floor: int = 1) -> Mask:
    """Ranks all prunable weights by magnitude and removes the smallest until exactly `sparsity` is met.

    Every layer keeps its `floor` largest; the other layers pay for that.
    """
    scores = [layer.weight.detach().abs() for layer in layers]
    return keep_highest(layers, scores, weights_to_keep(layers, sparsity, floor), floor)


def global_with_minimum(
    layers: Sequence[PrunableLayer], sparsity: float, *, minimum_threshold: float | None = None, floor: int = 1
) -> Mask:
    """The same, but every layer keeps at least `minimum_threshold` of all prunable weights of the NETWORK.

    A layer smaller than that stays dense, and the others pay: the sparsity is met exactly. Left out, the threshold
    divides half of what is kept evenly among the layers.
    """
    return global_magnitude(layers, sparsity, floor=minimum_weights(layers, sparsity, minimum_threshold, floor=floor))


def minimum_weights(
    layers: Sequence[PrunableLayer], sparsity: float, minimum_threshold: float | None, *, floor: int = 1
) -> int:
    """How many weights the threshold is in each layer; raises ThresholdTooHigh where the target leaves fewer.

    A fixed share does not travel: 0.2 % is a fair floor under 10 layers and all there is under 50 at 90 %. The paper's
    two own thresholds are 0.56 (28 layers) and 0.53 (53 layers) of an even division of what its targets keep. So half
    an even division is the default, and it fits every network.
    """
    count = weights_to_keep(layers, sparsity, floor)
    if minimum_threshold is None:
        return max(floor, count // (2 * len(layers)))
    if not 0 <= minimum_threshold <= 1:
        raise InvalidSpec(
            "the minimum threshold is a share of all prunable weights",
            at="/minimum_threshold",
            remedy="give one from 0 to 1",
        )
    total = sum(layer.weight.numel() for layer in layers)
    minimum = max(floor, round(minimum_threshold * total))
    if sum(fewest for fewest, _ in bounds(layers, minimum)) > count:
        raise ThresholdTooHigh(
            highest=_highest_that_fits(layers, count) / total, sparsity=sparsity_range(layers, minimum)[1]
        )
    return minimum


def _highest_that_fits(layers: Sequence[PrunableLayer], count: int) -> int:
    """The largest number that each layer can keep, or all of itself, of `count` weights."""
    left = count
    sizes = sorted(most for _, most in bounds(layers))
    for index, size in enumerate(sizes):
        share = left // (len(sizes) - index)
        if share < size:
            return share
        left -= size
    return sizes[-1]
