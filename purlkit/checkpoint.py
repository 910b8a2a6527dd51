"""A network's weights as a safetensors file: data, never code. Equal weights and metadata give equal bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from purlkit.errors import BadWeightsFile, WeightsDontFit

_SHOWN = 5
# What a float32 network may be given in; the packed types of 8 bits and fewer don't convert one to one.
_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
_TENSOR_NAME = re.compile(r"[\w.]{1,100}", re.ASCII)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the whole state_dict in main memory. Tied weights stand under each of their names, for any reader."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def to_bytes(tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> bytes:
    """The content of a file with these tensors and this metadata."""
    content: bytes = safetensors.torch.save(dict(tensors))
    # safetensors' own writer puts metadata in an order that changes from run to run; ours is sorted. The offsets in the
    # header count from its end, so the header can be written anew.
    end = _end_of_header(content)
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(content[8:end])}
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    return b"".join([len(raw).to_bytes(8, "little"), raw, content[end:]])


def from_bytes(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file's content."""
    try:
        tensors = safetensors.torch.load(content)
    except (SafetensorError, KeyError) as error:  # KeyError: a type of number that torch has not
        raise _unreadable() from error
    return tensors, json.loads(content[8 : _end_of_header(content)]).get("__metadata__") or {}


def _end_of_header(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def write(path: Path, model: nn.Module, *, metadata: Mapping[str, str]) -> None:
    path.write_bytes(to_bytes(tensors_of(model), metadata=metadata))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file, which is mapped and not read into memory as a whole."""
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a mapping
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _unreadable() from error


def _unreadable() -> BadWeightsFile:
    return BadWeightsFile(
        "this is no safetensors file that can be read", remedy="write it with safetensors.torch.save_file"
    )


def load(path: Path | str, model: nn.Module) -> dict[str, str]:
    """Loads a checkpoint into a model of the same architecture; returns the file's metadata."""
    tensors, metadata = read(Path(path))
    load_into(model, tensors)
    return metadata


def load_into(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies the tensors into the model if all of them fit and are finite, else raises and leaves it as it was."""
    own = model.state_dict()
    missing, unexpected = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    wrong = [name for name in own.keys() & tensors.keys() if not _fits(tensors[name], own[name])]
    problems = [
        *([f"missing: {_some(missing)}"] if missing else []),
        *([f"unexpected: {_some(unexpected)}"] if unexpected else []),
        *([f"other than {_some(wrong, own)}"] if wrong else []),
    ]
    if problems:
        raise _unfit("; ".join(problems), "give the weights of the model that the spec names")
    converted = {name: tensors[name].to(tensor.dtype) for name, tensor in own.items()}
    infinite = [name for name, tensor in converted.items() if not bool(tensor.isfinite().all())]
    if infinite:
        raise _unfit(f"not finite: {_some(infinite)}", "give weights without NaN and infinity")
    # A model without values, on the meta device, takes the tensors themselves.
    model.load_state_dict(converted, assign=any(tensor.is_meta for tensor in own.values()))


def _unfit(problem: str, remedy: str) -> WeightsDontFit:
    return WeightsDontFit(f"the weights don't fit the model ({problem})", at="/model/weights", remedy=remedy)


def _fits(given: Tensor, own: Tensor) -> bool:
    return given.shape == own.shape and (given.dtype == own.dtype or {given.dtype, own.dtype} <= _FLOATS)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _some(names: Iterable[str], kinds: Mapping[str, Tensor] | None = None) -> str:
    """The first few, and only what looks like a tensor's name: the file is a stranger's."""
    names = sorted(names)
    shown = [name if _TENSOR_NAME.fullmatch(name) else "(an odd name)" for name in names[:_SHOWN]]
    if kinds is not None:
        shown = [f"{name} {_kind(kinds[name])}" for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def recount(tensors: Mapping[str, Tensor], layers: Iterable[str]) -> tuple[int, int]:
    """(non-zero weights, all weights) of these prunable layers, counted from a file's tensors."""
    weights = [tensors[f"{name}.weight"] for name in layers]
    return sum(int(weight.count_nonzero()) for weight in weights), sum(weight.numel() for weight in weights)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fingerprint(model: nn.Module) -> str:
    """sha256 over every tensor's name, type, shape and bytes: equal for equal weights, in any run and on any device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {_kind(tensor)}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
