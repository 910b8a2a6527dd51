"""Global magnitude pruning: one threshold for the whole network."""

from __future__ import annotations

from collections.abc import Sequence

from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import keep_highest, weights_to_keep


def global_magnitude(layers: Sequence[PrunableLayer], sparsity: float) -> Mask:
    """Ranks all prunable weights by magnitude and removes the smallest until exactly `sparsity` is met.

    A layer that would lose its last weight keeps its largest; the other layers pay for it.
    """
    scores = [layer.weight.detach().abs() for layer in layers]
    return keep_highest(layers, scores, weights_to_keep(layers, sparsity))
