"""What a network costs before and after pruning: parameters, and the multiply-adds of its convolutions and linears.

Compression and theoretical speed-up are those of "What is the state of neural network pruning?" (Blalock et al. 2020):
original size over new size, original multiply-adds over new ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from purlkit import results
from purlkit.errors import InvalidSpec
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.training.evaluate import mode

_PRODUCTS = {functional.linear, functional.conv1d, functional.conv2d, functional.conv3d}
_ATTENTION = inspect.signature(functional.multi_head_attention_forward)


def weight_uses(model: nn.Module, image: Tensor) -> dict[str, int]:
    """Layer name → how often each of its weights is multiplied on the way of one image, a batch of one.

    A convolution's weight is used at every position of the output (those where it meets padding included), a linear's
    once for each vector; a layer that is called again and again, or shared, adds up. One that is not called in
    evaluation, as an auxiliary head, has 0. Dense multiply-adds of a layer are its weights times this, and after
    pruning those that are kept times this.

    >>> weight_uses(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2)), torch.zeros(1, 1, 8, 8))
    {'0': 36, '2': 1}
    """
    with _Uses() as seen, mode(model, training=False), torch.no_grad():
        model(image)
    return {layer.name: seen.of(layer.weight) for layer in prunable_layers(model)}


def derived_layers(model: nn.Module, image: Tensor) -> list[str]:
    """Layers that are called and don't multiply by their own weight, as with weight standardisation.

    What they multiply by is made of the weight anew each time, and the mean that they subtract undoes every zero.
    """
    called: set[int] = set()
    layers = prunable_layers(model)
    hooks = [
        model.get_submodule(layer.name).register_forward_hook(lambda *_, layer=layer: called.add(id(layer.weight)))
        for layer in layers
    ]
    try:
        with _Uses() as seen, mode(model, training=False), torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return [layer.name for layer in layers if id(layer.weight) in called and not seen.of(layer.weight)]


def cost(model: nn.Module, mask: Mask, uses: Mapping[str, int]) -> results.Cost:
    """Of the model as it would be without the weights that the mask removes.

    Where no product was counted, as in a network that multiplies in ways of its own, none is saved: a speed-up of 1.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    parameters_kept = parameters - (mask.total - mask.kept)
    dense = sum(total * uses[name] for name, (_, total) in mask.per_layer.items())
    left = sum(kept * uses[name] for name, (kept, _) in mask.per_layer.items())
    if mask.kept == 0 or (dense and not left):
        raise InvalidSpec("nothing that multiplies is left", remedy="keep at least one weight of every layer")
    return results.Cost(
        parameters=parameters,
        parameters_kept=parameters_kept,
        multiply_adds=dense,
        multiply_adds_kept=left,
        compression=parameters / parameters_kept,
        compression_prunable=mask.total / mask.kept,
        speed_up=dense / left if dense else 1.0,
        flops_pruned=(dense - left) / dense if dense else 0.0,
    )


class _Uses(TorchFunctionMode):
    """Sees every product with a weight, also where a module reads the weight of another instead of calling it."""

    def __init__(self) -> None:
        super().__init__()
        self._by_weight: dict[int, int] = {}

    def of(self, weight: Tensor) -> int:
        return self._by_weight.get(id(weight), 0)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _PRODUCTS:
            self._add(args[1] if len(args) > 1 else (kwargs or {})["weight"], output)
        elif func is functional.multi_head_attention_forward:
            # Its inner products are hidden from here; of its weights only the last projection's is a linear layer's.
            given = _ATTENTION.bind(*args, **(kwargs or {})).arguments
            self._add(given["out_proj_weight"], output[0])
        return output

    def _add(self, weight: Tensor, output: Tensor) -> None:
        self._by_weight[id(weight)] = self.of(weight) + output.numel() // weight.shape[0]
