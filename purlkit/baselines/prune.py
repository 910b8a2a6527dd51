"""The library's front door: one call, any method."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from purlkit import arguments, baselines
from purlkit.baselines.scoring import by_reward_split
from purlkit.errors import InvalidSpec, MissingData, UnknownName
from purlkit.pruning.masks import Mask
from purlkit.spec import Retrain, Search, Training
from purlkit.training.data import Splits

# What an option must be, whichever method has it; None where leaving it out means something.
_CHECKS: Mapping[str, Callable[[Any], object]] = {
    "floor": lambda given: arguments.a_whole_number("floor", given, least=0),
    "minimum_threshold": lambda given: given is None or arguments.a_share("minimum_threshold", given),
    "training": lambda given: arguments.of_kind("training", given, Training),
    "retrain": lambda given: given is None or arguments.of_kind("retrain", given, Retrain),
    "episodes": lambda given: arguments.a_whole_number("episodes", given, least=1),
    "seed": arguments.a_seed,
}


def prune(
    model: nn.Module,
    data: Splits | tuple[Tensor, Tensor] | None = None,
    sparsity: float = 0.9,
    method: str = "lamp",
    **options: Any,
) -> Mask:
    """Sets `sparsity` of the model's prunable weights to zero, in place, and returns what is kept.

    `method` is a name of `purlkit.baselines.METHODS`, and `options` are those of its function: `floor` of all,
    `minimum_threshold` of global-mt, `training` of the gradual ones, `episodes`, `seed` and `retrain` (the training
    before each score; None for none) of random and amc. These four need `data`: a `Splits`, or a pair (images, classes)
    of which a fifth gives the scores. The gradual methods train the model; after any other, train it on under the mask.

    >>> import torch, purlkit
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 20), torch.nn.ReLU(), torch.nn.Linear(20, 2))
    >>> mask = purlkit.prune(model, sparsity=0.75)
    >>> int((model[0].weight == 0).sum() + (model[2].weight == 0).sum()), mask.kept
    (90, 30)
    >>> x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    >>> purlkit.prune(model, (x, (x.sum(1) > 0).long()), sparsity=0.8, method="random", episodes=3).sparsity
    0.8
    """
    if not isinstance(method, str) or method not in baselines.METHODS:
        raise UnknownName(kind="method", known=sorted(baselines.METHODS), at="/method")
    sparsity = arguments.a_number("sparsity", sparsity)
    options = _checked(method, options)
    layers = arguments.layers_with_values(model)
    find = baselines.method(method)
    if method in baselines.FROM_WEIGHTS:
        mask = find(layers, sparsity, **options)
    elif data is None:
        raise MissingData(f"{method} trains the network", remedy="give data=…, a Splits or a pair (images, classes)")
    else:
        splits = arguments.images_for(model, data)
        if method in baselines.FROM_TRAINING:
            mask = find(model, splits.train, sparsity, **options)
        else:
            retrain = options.pop("retrain", Retrain(images=min(Retrain().images, len(splits.train))))
            score = by_reward_split(model, splits, retrain, seed=options.get("seed", 0))
            mask = find(layers, sparsity, score=score, **options)
    mask.apply(layers)
    return mask


def _checked(method: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options as the method takes them; the first that it has not, or that is not what it may be, is named."""
    takes = inspect.signature(baselines.method(method)).parameters.values()
    known = {parameter.name for parameter in takes if parameter.kind is parameter.KEYWORD_ONLY}
    if "score" in known:  # made here, of a training that may be chosen
        known = known - {"score"} | {"retrain"}
    for name, given in options.items():
        if name not in known:
            raise InvalidSpec(
                f"{method} has no option {name}", at=f"/{name}", remedy=f"use those of {', '.join(sorted(known))}"
            )
        if name in _CHECKS:
            _CHECKS[name](given)
    # Which numbers an alpha may be, and which it is when none are given, depends on the criterion.
    grid = {name: options[name] for name in ("alphas", "criterion") if name in options}
    if not grid:
        return options
    search = arguments.as_in_a_spec(Search, **grid)
    return {**options, "alphas": search.alphas, "criterion": search.criterion}
