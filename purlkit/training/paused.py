"""A training that stopped between two steps, as data: optimiser and generators. The weights are the model's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from purlkit.training.together import Team


@dataclass(frozen=True, eq=False)
class Paused:
    """After so many epochs: `moment/<parameter>/<name>` of the optimiser, and where each generator stands.

    In the middle of an epoch `batches` of it are done, and the order's generator stands where the epoch began.
    """

    epochs: int
    tensors: dict[str, Tensor]

    @property
    def batches(self) -> int:
        return int(self.tensors.get("batches", 0))


def pause(
    epochs: int,
    optimizer: torch.optim.Optimizer,
    order: Tensor,
    device: torch.device,
    *,
    batches: int = 0,
    team: Team | None = None,
) -> Paused:
    tensors = {
        f"moment/{index}/{name}": moment.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for index, parameter in enumerate(_parameters(optimizer))
        for name, moment in optimizer.state.get(parameter, {}).items()
        if isinstance(moment, Tensor)
    }
    tensors["generator/order"] = order
    for name, state in _generators(device).items():
        states = [state] if team is None else team.gathered(state)
        tensors |= {_whose(name, rank): one for rank, one in enumerate(states)}
    if batches:
        tensors["batches"] = torch.tensor(batches)
    return Paused(epochs, tensors)


def go_on(
    paused: Paused,
    optimizer: torch.optim.Optimizer,
    order: torch.Generator,
    device: torch.device,
    *,
    team: Team | None = None,
) -> None:
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
    for name in _generators(device):
        # Where it was fewer who paused, the others begin with their seeds.
        state = paused.tensors.get(_whose(name, team.rank if team else 0))
        if state is not None and name == "generator/cpu":
            torch.default_generator.set_state(state)
        elif state is not None:
            torch.cuda.set_rng_state(state, device)


def _generators(device: torch.device) -> dict[str, Tensor]:
    states = {"generator/cpu": torch.default_generator.get_state()}
    if device.type == "cuda":
        states["generator/cuda"] = torch.cuda.get_rng_state(device)
    return states


def _whose(name: str, rank: int) -> str:
    return f"{name}/{rank}" if rank else name


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
