"""A training that stopped between two epochs, as data: optimiser and generators. The weights are the model's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Paused:
    """After so many epochs: `moment/<parameter>/<name>` of the optimiser, and where each generator stands."""

    epochs: int
    tensors: dict[str, Tensor]


def pause(epochs: int, optimizer: torch.optim.Optimizer, order: torch.Generator, device: torch.device) -> Paused:
    tensors = {
        f"moment/{index}/{name}": moment.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for index, parameter in enumerate(_parameters(optimizer))
        for name, moment in optimizer.state.get(parameter, {}).items()
        if isinstance(moment, Tensor)
    }
    tensors["generator/order"] = order.get_state()
    tensors["generator/cpu"] = torch.default_generator.get_state()
    if device.type == "cuda":
        tensors["generator/cuda"] = torch.cuda.get_rng_state(device)
    return Paused(epochs, tensors)


def go_on(paused: Paused, optimizer: torch.optim.Optimizer, order: torch.Generator, device: torch.device) -> None:
    """Inside `seeded`, so that the global generators are given back afterwards."""
    parameters = _parameters(optimizer)
    for key, tensor in paused.tensors.items():
        if key.startswith("moment/"):
            _, index, name = key.split("/")
            parameter = parameters[int(index)]
            # In the parameter's layout: another is added up by other instructions, which may round elsewhere.
            moment = tensor.clone() if tensor.dim() == 0 else torch.empty_like(parameter).copy_(tensor)
            optimizer.state[parameter][name] = moment
    order.set_state(paused.tensors["generator/order"])
    torch.default_generator.set_state(paused.tensors["generator/cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(paused.tensors["generator/cuda"], device)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
