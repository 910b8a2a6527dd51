"""The naive methods, by the names that a spec uses. Each is a function that returns a Mask at exactly the sparsity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from purlkit.baselines.global_magnitude import global_magnitude
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask

METHODS: dict[str, Callable[[Sequence[PrunableLayer], float], Mask]] = {"global": global_magnitude}
