"""A torch checkpoint as safetensors, on the machine of whoever trusts it: a service reads no pickle of anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from purlkit.errors import BadWeightsFile

# What training scripts wrap a state_dict in, and what DataParallel and torch.compile put before its names.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.")


def convert(source: Path, target: Path) -> int:
    """Writes the tensors of `source` and returns how many there are."""
    import torch
    from safetensors.torch import save_file

    try:
        told = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as problem:  # bytes that are no pickle can end its reader in any way
        raise BadWeightsFile(
            f"{source} can't be read as weights alone",
            remedy="it may hold a whole model: load it where it was made, and torch.save(model.state_dict(), …)",
        ) from problem
    tensors = {
        _named(name): value.detach().contiguous().clone()  # two names of one tensor become two tensors
        for name, value in _state_dict(told).items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise BadWeightsFile(
            f"{source} holds no tensors by name", remedy="give what torch.save(model.state_dict()) wrote"
        )
    save_file(tensors, target)
    return len(tensors)


def _state_dict(told: Any) -> Mapping[str, Any]:
    for wrapper in WRAPPERS:
        if isinstance(told, Mapping) and isinstance(told.get(wrapper), Mapping):
            told = told[wrapper]
    return told if isinstance(told, Mapping) else {}


def _named(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
