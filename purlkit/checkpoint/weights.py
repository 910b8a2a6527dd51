"""Weights out of a model and into one: all of them fit, or none is taken."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from purlkit.errors import InvalidSpec, WeightsDontFit
from purlkit.header import TensorInfo

_SHOWN = 5
_PIECE = 2**20
# What a float32 network may be given in; the packed types of 8 bits and fewer don't convert one to one.
_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F64": torch.float64,
}
_TENSOR_NAME = re.compile(r"[\w.]{1,100}", re.ASCII)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the whole state_dict in main memory. Tied weights stand under each of their names, for any reader."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in _state_of(model).items()
    }


def load_into(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies the tensors into the model if all of them fit and are finite, else raises and leaves it as it was."""
    own = _state_of(model)
    _compare(_kinds(own), _kinds(tensors))
    infinite = [name for name, tensor in own.items() if not _is_finite(tensors[name], tensor.dtype)]
    if infinite:
        raise _unfit(f"not finite: {_some(infinite)}", "give weights without NaN and infinity")
    if any(tensor.is_meta for tensor in own.values()):
        # A model without values, on the meta device, takes copies for its own.
        copies = {name: tensors[name].to(tensor.dtype, copy=True) for name, tensor in own.items()}
        model.load_state_dict(copies, assign=True)
    else:
        model.load_state_dict(dict(tensors))


def _is_finite(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Once it is of this type. Piece by piece, for the question alone takes more memory than the tensor."""
    return all(bool(piece.to(dtype).isfinite().all()) for piece in tensor.reshape(-1).split(_PIECE))


def views_of(content: bytearray, header: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
    """The tensors that a file's header tells of, in the bytes that follow it; copies of those at an odd place only."""
    tensors = {}
    for name, info in header.items():
        dtype, raw = _DTYPES[info.dtype], content
        begin, count = info.begin, math.prod(info.shape)
        if begin % dtype.itemsize:
            raw, begin = content[begin : info.end], 0
        flat = torch.frombuffer(raw, dtype=dtype, count=count, offset=begin) if count else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(info.shape)
    return tensors


def refuse_unfit(model: nn.Module, header: Mapping[str, TensorInfo]) -> None:
    """The same question, asked of a file's header alone."""
    _compare(_kinds(_state_of(model)), {name: _Kind(_DTYPES[info.dtype], info.shape) for name, info in header.items()})


def _state_of(model: nn.Module) -> dict[str, Tensor]:
    """What a file of it holds; a module may keep anything at all in its extra state, and a file takes tensors alone."""
    state = model.state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        told = f"the state_dict of the model holds more than tensors ({_some(odd)})"
        raise InvalidSpec(told, at="/model", remedy="leave get_extra_state out, or let it answer with a tensor")
    return state


class _Kind(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}"

    def takes(self, given: _Kind) -> bool:
        return given.shape == self.shape and (given.dtype == self.dtype or {given.dtype, self.dtype} <= _FLOATS)


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, _Kind]:
    return {name: _Kind(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def _compare(own: Mapping[str, _Kind], given: Mapping[str, _Kind]) -> None:
    missing, unexpected = own.keys() - given.keys(), given.keys() - own.keys()
    both = sorted(own.keys() & given.keys())
    wrong = [f"{name} is {given[name]} and not {own[name]}" for name in both if not own[name].takes(given[name])]
    problems = [
        *([f"missing: {_some(missing)}"] if missing else []),
        *([f"unexpected: {_some(unexpected)}"] if unexpected else []),
        *([_first_of(wrong)] if wrong else []),
    ]
    if problems:
        raise _unfit("; ".join(problems), "give the weights of the model that the spec names")


def _unfit(problem: str, remedy: str) -> WeightsDontFit:
    return WeightsDontFit(f"the weights don't fit the model ({problem})", at="/model/weights", remedy=remedy)


def _some(names: Iterable[str]) -> str:
    """The first few, and only what looks like a tensor's name: the file is a stranger's."""
    names = sorted(names)
    return _first_of([name if _TENSOR_NAME.fullmatch(name) else "(an odd name)" for name in names])


def _first_of(told: Sequence[str]) -> str:
    return ", ".join(told[:_SHOWN]) + (f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else "")


def recount(tensors: Mapping[str, Tensor], layers: Iterable[str]) -> tuple[int, int]:
    """(non-zero weights, all weights) of these prunable layers, counted from a file's tensors."""
    weights = [tensors[f"{name}.weight"] for name in layers]
    return sum(int(weight.count_nonzero()) for weight in weights), sum(weight.numel() for weight in weights)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fingerprint(model: nn.Module) -> str:
    """sha256 over every tensor's name, type, shape and bytes: equal for equal weights, in any run and on any device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_state_of(model).items()):
        digest.update(f"{name} {_Kind(tensor.dtype, tuple(tensor.shape))}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
