"""Which weights of a network may be pruned: those of its convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn

from purlkit import results

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
    """
    taken = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    layers = []
    for name, module in model.named_modules():
        if isinstance(module, (*_CONVOLUTIONS, nn.Linear)) and id(module.weight) not in taken:
            taken.add(id(module.weight))
            layers.append(PrunableLayer(name, _kind(module), cast(nn.Parameter, module.weight)))
    return layers


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
