"""Methods that decide how many weights each layer keeps; the layer's largest stay."""

from __future__ import annotations

from collections.abc import Sequence

from purlkit.pruning.apportion import apportion
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import bounds, largest, refuse_collapse, weights_to_keep


def uniform(layers: Sequence[PrunableLayer], sparsity: float, *, floor: int = 1) -> Mask:
    """The same share from every layer, to the nearest weight (by largest remainder, so that the total is exact).

    A layer with more zeros than that gives the others its part.
    """
    return _in_proportion(layers, [layer.weight.numel() for layer in layers], sparsity, floor)


def erk(layers: Sequence[PrunableLayer], sparsity: float, *, floor: int = 1) -> Mask:
    """Erdős–Rényi with kernels: density in proportion to (in + out + kernel sides) / (in * out * kernel area).

    A layer that would need more than it has stays dense, and the others are raised until the total is exact. For a
    grouped convolution `in` is what one filter sees, as in its weight's shape.
    """
    # Density times the number of weights, which is the product of the same numbers.
    return _in_proportion(layers, [sum(layer.weight.shape) for layer in layers], sparsity, floor)


def _in_proportion(layers: Sequence[PrunableLayer], shares: Sequence[int], sparsity: float, floor: int) -> Mask:
    counts = apportion(weights_to_keep(layers, sparsity, floor), shares, bounds(layers, floor))
    return refuse_collapse(layers, largest(layers, counts))
