"""What the library's front doors are called with: refused with the argument's name before anything is computed.

A spec is checked by its records; these are the same questions asked of Python values.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from purlkit.errors import InvalidSpec, NotEnoughData, ShapeMismatch
from purlkit.pruning.layers import PrunableLayer, layers_to_prune
from purlkit.spec import Record
from purlkit.training.data import Images, Splits, splits_of
from purlkit.training.evaluate import mode

R = TypeVar("R", bound=Record)


def a_network(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise InvalidSpec("model is no network", at="/model", remedy="give a torch.nn.Module with its weights loaded")
    return model


def layers_with_values(model: object) -> list[PrunableLayer]:
    """What can be pruned of it; a network on the meta device has weights of no values, which can't be compared."""
    layers = layers_to_prune(a_network(model))
    if any(layer.weight.is_meta for layer in layers):
        raise InvalidSpec(
            "the weights of model have no values",
            at="/model",
            remedy="bring it from the meta device with to_empty, and load its weights",
        )
    return layers


def images_for(model: nn.Module, data: Any) -> Splits:
    """The splits of `data` on the model's device, if the model answers its images with a row of scores for each."""
    splits = splits_of(data).to(next(model.parameters()).device)
    for name, part in (("train", splits.train), ("reward", splits.reward)):
        if not len(part):
            raise NotEnoughData(f"the {name} split of data has no image", at="/data", remedy="give it some")
    sample = splits.train[:1].x
    try:
        with mode(model, training=False), torch.no_grad():
            answer = model(sample)
    except Exception as error:  # whatever a stranger's forward makes of images that it does not know
        remedy = "give images of the shape and the type of numbers that it computes with"
        raise ShapeMismatch("model can't take the images of data", at="/data", remedy=remedy) from error
    if not isinstance(answer, Tensor) or answer.dim() != 2 or not answer.is_floating_point():
        remedy = "wrap it in one that answers with a tensor (images, classes)"
        raise ShapeMismatch("model does not answer with a score for each class", at="/model", remedy=remedy)
    for part in (splits.train, splits.reward):
        if isinstance(part, Images) and not 0 <= int(part.y.min()) <= int(part.y.max()) < answer.shape[1]:
            remedy = f"number them from 0 to {answer.shape[1] - 1}, as many as the model tells apart"
            raise ShapeMismatch("data has classes that the model does not know", at="/data", remedy=remedy)
    return splits


def of_kind(name: str, value: object, kind: type[R]) -> R:
    """The value, if it is a record of this kind."""
    if not isinstance(value, kind):
        remedy = f"give a purlkit.spec.{kind.__name__}(…)"
        raise InvalidSpec(f"{name} is no {kind.__name__}", at=f"/{name}", remedy=remedy)
    return value


def as_in_a_spec(kind: type[R], **fields: object) -> R:
    """A record of these fields; the first that it refuses is named."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"])) or next(iter(fields))
        raise InvalidSpec(f"{name} is not what it may be", at=f"/{name}", remedy=first["msg"]) from error


def a_number(name: str, value: object) -> float:
    try:
        if isinstance(value, Real):
            return float(value)
    except OverflowError:
        pass
    raise InvalidSpec(f"{name} is no number", at=f"/{name}", remedy="give one from 0 to 1")


def a_share(name: str, value: object) -> float:
    if not 0 <= (number := a_number(name, value)) <= 1:
        raise InvalidSpec(f"{name} is no share", at=f"/{name}", remedy="give a number from 0 to 1")
    return number


def a_whole_number(name: str, value: object, *, least: int | None = None) -> int:
    if not isinstance(value, int) or (least is not None and value < least):
        remedy = "give a whole number" + ("" if least is None else f" of {least} or more")
        raise InvalidSpec(f"{name} is not what it may be", at=f"/{name}", remedy=remedy)
    return value


def a_seed(value: object) -> int:
    """As in a spec: torch takes no more than 64 bits, and two seeds that it takes for one would be a surprise."""
    seed = a_whole_number("seed", value, least=0)
    if seed >= 2**31:
        raise InvalidSpec("seed is not what it may be", at="/seed", remedy="give a whole number from 0 to 2^31 - 1")
    return seed
