"""Reads what a safetensors file says it holds, without torch and without trusting a byte of it.

The layout: eight bytes with the header's length, the header as JSON, then the tensors' bytes end to end.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from purlkit.errors import BadWeightsFile

# A network of a thousand layers has some five thousand tensors and a header of 0.7 MB; parsing costs several times that
# in memory.
MAX_HEADER_BYTES = 2 * 2**20
MAX_TENSORS = 10_000
MAX_RANK = 8
METADATA = "__metadata__"

ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One tensor, and where its bytes are, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_header(file: Readable, size: int | None = None) -> dict[str, TensorInfo]:
    """The tensors of a file of `size` bytes, by name. BadWeightsFile for whatever a strict reader would not load."""
    return read_header_and_metadata(file, size)[0]


def read_header_and_metadata(file: Readable, size: int | None = None) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """The same, and the words that were written beside them. The file then stands at the first tensor's first byte.

    Of a file that is still being inflated the size is not known: then its end is the caller's to check.
    """
    prefix = file.read(8)
    if len(prefix) != 8:
        _refuse("it is too short to have a header")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        _refuse(f"its header is longer than {MAX_HEADER_BYTES} bytes, or the file is of another kind")
    if size is not None and 8 + length > size:
        _refuse("it ends before its header does")
    text = file.read(length)
    if len(text) != length:
        _refuse("it ends before its header does")
    entries = _parse(text)
    metadata = _words(entries.pop(METADATA, {}))
    if not entries:
        _refuse("it holds no tensors")
    if len(entries) > MAX_TENSORS:
        _refuse(f"it holds more than {MAX_TENSORS} tensors")
    tensors = {name: _tensor(entry) for name, entry in entries.items()}
    _check_layout(tensors, None if size is None else size - 8 - length)
    return tensors, metadata


def _parse(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        _refuse("its header does not begin where it should")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _refuse("its header is not readable JSON with every name once")
    if not isinstance(header, dict):
        _refuse("its header is not an object")
    return header


def _tensor(entry: Any) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse("a tensor does not have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        _refuse(f"a tensor has a type other than {', '.join(ITEM_BYTES)}")
    if not _are_sizes(shape) or len(shape) > MAX_RANK:
        _refuse(f"a tensor's shape is not a list of at most {MAX_RANK} sizes")
    if not _are_sizes(offsets) or len(offsets) != 2:
        _refuse("a tensor's data_offsets are not two positions")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        _refuse("a tensor's bytes are not as many as its shape and type need")
    return TensorInfo(dtype=dtype, shape=tuple(shape), begin=begin, end=end)


def _check_layout(tensors: dict[str, TensorInfo], data_bytes: int | None) -> None:
    """Without holes or overlaps, and nothing left over: there is no room for anything but the tensors."""
    position = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != position:
            _refuse("its tensors overlap or leave holes")
        position = tensor.end
    if data_bytes is not None and position != data_bytes:
        _refuse("its tensors don't end where the file does: it may have been cut off")


def _words(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse("its metadata are not words by name")
    return metadata


def _are_sizes(values: Any) -> bool:
    # A bool is an int to Python, and true is no size.
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name stands there twice")
    return entries


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _refuse(problem: str) -> NoReturn:
    raise BadWeightsFile(
        f"this is not a safetensors file that we accept: {problem}",
        remedy="write it with safetensors.torch.save_file from a state dict",
    )
