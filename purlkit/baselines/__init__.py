"""The methods to compare with, by the names that a spec uses. Each is a function that returns a Mask.

All meet the asked-for sparsity to the weight, never revive a zero, take of equal weights the first, and know `floor`:
how many of its largest weights every layer keeps at least (1; with 0 a mask that empties a layer is refused).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from purlkit.pruning.masks import Mask

# (layers, sparsity, …): from the weights as they are.
FROM_WEIGHTS = {
    "uniform": "purlkit.baselines.layerwise:uniform",
    "global": "purlkit.baselines.global_magnitude:global_magnitude",
    "global-mt": "purlkit.baselines.global_magnitude:global_with_minimum",
    "lamp": "purlkit.baselines.lamp:lamp",
    "erk": "purlkit.baselines.layerwise:erk",
}

# (model, images, sparsity, *, training, seed, …): by training the model in place.
FROM_TRAINING = {
    "global-gradual": "purlkit.baselines.gradual:global_gradual",
    "gmp": "purlkit.baselines.gradual:gmp",
}

# (layers, sparsity, *, score, episodes, seed, …): by trying many masks, each scored by a function that is given.
FROM_SCORES = {
    "random": "purlkit.baselines.random_policies:random_policies",
    "amc": "purlkit.baselines.amc:amc",
}

METHODS = {**FROM_WEIGHTS, **FROM_TRAINING, **FROM_SCORES}


def method(name: str) -> Callable[..., Mask]:
    """The function of that name; only this loads it, and torch with it."""
    found: Callable[..., Mask] = pkgutil.resolve_name(METHODS[name])
    return found
