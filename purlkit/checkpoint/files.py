"""Safetensors, plain and gzipped. Equal weights and metadata give equal bytes, and a stranger's file can't cost more
than it may: its header is read first, by `purlkit.header`, and tensors only if that is as it should be. They are in
memory once then, as views of what was read.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from purlkit.arguments import a_network
from purlkit.checkpoint.inflate import Inflated
from purlkit.checkpoint.weights import load_into, refuse_unfit, tensors_of, views_of
from purlkit.errors import BadWeightsFile
from purlkit.header import TensorInfo, read_header_and_metadata

Accept = Callable[[Mapping[str, TensorInfo]], None]

# Level 9 makes a sparse ResNet-18 2 % smaller and takes 8 times as long.
_LEVEL = 6


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


def write_compressed(path: Path, content: bytes) -> None:
    """A file's content, gzipped: without a time or a name in it, so that equal content gives equal bytes."""
    path.write_bytes(gzip.compress(content, _LEVEL, mtime=0))


def read(path: Path, accept: Accept = lambda _: None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file. `accept` sees what the header says, and may raise, before any tensor."""
    try:
        with path.open("rb") as file:
            header, metadata = read_header_and_metadata(file, path.stat().st_size)
            accept(header)
            content = bytearray(_length(header))
            if file.readinto(content) != len(content):
                raise _unreadable()
    except OSError as error:
        raise _unreadable() from error
    return views_of(content, header), metadata


def read_compressed(path: Path, accept: Accept) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The same of a gzipped file. As much is inflated as the header says, so `accept` must refuse what is too much."""
    try:
        with path.open("rb") as raw:
            stream = Inflated(raw)
            header, metadata = read_header_and_metadata(stream)
            accept(header)
            content = stream.take(_length(header))
            stream.expect_end()
    except OSError as error:
        raise _unreadable() from error
    if len(content) != _length(header):
        raise _unreadable()
    return views_of(content, header), metadata


def _length(header: Mapping[str, TensorInfo]) -> int:
    return max(tensor.end for tensor in header.values())


def _unreadable() -> BadWeightsFile:
    return BadWeightsFile(
        "this is no safetensors file that can be read", remedy="write it with safetensors.torch.save_file"
    )


def load(path: Path | str, model: nn.Module) -> dict[str, str]:
    """Loads a checkpoint, `….safetensors` or `….safetensors.gz`, into a model of the same architecture.

    Returns the file's metadata. A file that does not fit the model is refused by its header, before its tensors are
    read: so it can't take more memory than the model's own weights do, and a little.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "net.safetensors"), nn.Linear(2, 2), metadata={"about": "an example"})
    ...     load(Path(folder, "net.safetensors"), nn.Linear(2, 2))
    {'about': 'an example'}
    """
    a_network(model)
    path = Path(path) if isinstance(path, str) else path
    if not isinstance(path, Path) or not _is_file(path):
        raise BadWeightsFile("there is no such file", remedy="give the path of a checkpoint")
    if path.name.endswith(".safetensors.gz"):
        reader = read_compressed
    elif path.name.endswith(".safetensors"):
        reader = read
    else:
        raise BadWeightsFile(
            "this is a file of another kind", remedy="give one that ends in .safetensors or .safetensors.gz"
        )
    tensors, metadata = reader(path, lambda header: refuse_unfit(model, header))
    load_into(model, tensors)
    return metadata


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file system has room for
        return False
