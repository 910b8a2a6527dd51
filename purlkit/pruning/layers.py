"""Which weights of a network may be pruned: those of its convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import is_lazy

from purlkit import results
from purlkit.errors import InvalidSpec

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, eq=False)
class PrunableLayer:
    """One layer of the walk. `weight` is the model's own parameter, not a copy."""

    name: str
    kind: str
    weight: nn.Parameter


def prunable_layers(model: nn.Module) -> list[PrunableLayer]:
    """Convolutions (grouped ones too) and linear layers in module order; biases, norms and embeddings are not.

    A weight that several layers share is one layer, under its first name; one shared with an embedding is none.
    InvalidSpec where a layer's weight is no parameter with values of its own: zeros set there would not stay.
    """
    taken = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    layers = []
    for name, module in model.named_modules():
        if not isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
            continue
        weight = _own_weight(name, module)
        if id(weight) not in taken:
            taken.add(id(weight))
            layers.append(PrunableLayer(name, _kind(module), weight))
    return layers


def layers_to_prune(model: nn.Module) -> list[PrunableLayer]:
    """The same, for who is about to prune: InvalidSpec where there is none."""
    layers = prunable_layers(model)
    if not any(layer.weight.numel() for layer in layers):
        raise InvalidSpec("there is nothing to prune", at="/model", remedy="give a model with convolutions or linears")
    return layers


def _own_weight(name: str, module: nn.Module) -> nn.Parameter:
    weight = module.weight
    if not isinstance(weight, nn.Parameter):
        raise InvalidSpec(
            f"the weight of {name} is computed anew from other parameters",
            at="/model",
            remedy="make it one of its own first, with remove_parametrizations, remove_weight_norm or prune.remove",
        )
    if is_lazy(weight):
        raise InvalidSpec(f"the weight of {name} has no shape yet", at="/model", remedy="run the model on an image")
    return weight


def _kind(module: nn.Module) -> str:
    if isinstance(module, _CONVOLUTIONS):
        return "conv" if module.groups == 1 else "grouped-conv"
    return "linear"


def describe(layers: Sequence[PrunableLayer]) -> tuple[results.Layer, ...]:
    """The same as records without tensors."""
    return tuple(
        results.Layer(name=layer.name, kind=layer.kind, shape=tuple(layer.weight.shape), weights=layer.weight.numel())
        for layer in layers
    )
