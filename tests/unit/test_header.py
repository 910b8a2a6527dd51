"""The safetensors header reader: accepts what the real library writes, and refuses whatever could hide something."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from purlkit import header
from purlkit.errors import BadWeightsFile
from purlkit.header import TensorInfo, read_header

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def read(data: bytes) -> dict[str, TensorInfo]:
    return read_header(io.BytesIO(data), len(data))


def build(entries: Any, data: bytes = b"\0" * 8) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_reads_what_safetensors_writes() -> None:
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
        "steps": np.array(7, dtype=np.int64),
        "half": np.ones(3, dtype=np.float16),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }
    data = save(arrays, metadata={"fingerprint": "abc"})

    tensors = read(data)

    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "conv.weight": (2, 3, 2, 2),
        "steps": (),
        "half": (3,),
        "empty": (0, 4),
    }
    assert tensors["conv.weight"].dtype == "F32"
    start = len(data) - max(tensor.end for tensor in tensors.values())
    weight = tensors["conv.weight"]
    assert data[start + weight.begin : start + weight.end] == arrays["conv.weight"].tobytes()


def test_the_stream_stands_at_the_first_tensor_afterwards() -> None:
    stream = io.BytesIO(build({"w": F32}, b"abcdefgh"))

    read_header(stream, len(stream.getvalue()))

    assert stream.read() == b"abcdefgh"


def entry(**changes: Any) -> dict[str, Any]:
    return {"w": {**F32, **changes}}


REFUSED = {
    "nothing": b"",
    "a few bytes": b"\x08\0\0",
    "a pickle": b"\x80\x04\x95" + b"\0" * 40,
    "a zip": b"PK\x03\x04" + b"\0" * 40,
    "a header as long as it likes": struct.pack("<Q", 2**63) + b"{}",
    "a header beyond the end": struct.pack("<Q", 100) + b"{}",
    "no JSON": build(b"{'w': 1}"),
    "no UTF-8": build(b'{"\xff": 1}'),
    "JSON that is no object": build(b"[]"),
    "leading space": build(b" " + json.dumps({"w": F32}).encode()),
    "depth without end": build(b'{"w":' + b"[" * 200_000),
    "a number of many digits": build(b'{"w":' + b"1" * 10_000 + b"}"),
    "NaN": build(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,NaN]}}'),
    "one name twice": build(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":1}'),
    "no tensors": build({}, b""),
    "metadata that are no words": build({"__metadata__": {"a": 1}, "w": F32}),
    "a tensor that is a list": build({"w": [1]}),
    "a field too few": build({"w": {"dtype": "F32", "shape": [2]}}),
    "a field too many": build(entry(code="import os")),
    "an unknown type": build(entry(dtype="OBJECT")),
    "a type that is a list": build(entry(dtype=["F32"])),
    "a negative size": build(entry(shape=[-2])),
    "a size that is true": build(entry(shape=[True, 2])),
    "a broken size": build(entry(shape=[2.0])),
    "a shape of too many sizes": build(entry(shape=[2] + [1] * 8)),
    "a huge size": build(entry(shape=[2**60, 0], data_offsets=[0, 0]), b""),
    "offsets that go back": build(entry(data_offsets=[8, 0])),
    "three offsets": build(entry(data_offsets=[0, 4, 8])),
    "too few bytes for the shape": build(entry(shape=[3])),
    "a hole before": build(entry(data_offsets=[8, 16]), b"\0" * 16),
    "an overlap": build({"v": F32, "w": F32}),
    "bytes left over": build({"w": F32}, b"\0" * 9),
    "a file cut off": build({"w": F32}, b"\0" * 7),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(data: bytes) -> None:
    with pytest.raises(BadWeightsFile, match="safetensors"):
        read(data)


def test_refuses_more_tensors_than_any_network_has() -> None:
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    many = {str(number): nothing for number in range(header.MAX_TENSORS + 1)}

    with pytest.raises(BadWeightsFile, match=f"more than {header.MAX_TENSORS} tensors"):
        read(build(many, b""))


def test_a_long_header_is_refused_before_it_is_read() -> None:
    class Endless(io.RawIOBase):
        """Says how much of it was read."""

        taken = 0

        def readinto(self, buffer: Any) -> int:
            buffer[:] = struct.pack("<Q", header.MAX_HEADER_BYTES + 1)[: len(buffer)]
            self.taken += len(buffer)
            return len(buffer)

    endless = Endless()

    with pytest.raises(BadWeightsFile, match="longer than"):
        read_header(endless, 2**40)  # type: ignore[arg-type]

    assert endless.taken == 8


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_else(noise: bytes) -> None:
    for data in (noise, build(noise), build({"w": F32}, noise), build(b"{" + noise)):
        try:
            tensors = read(data)
        except BadWeightsFile:
            continue
        assert tensors


@given(st.dictionaries(st.sampled_from("abc"), st.none() | st.integers() | st.lists(st.integers()) | st.just(F32)))
def test_no_entry_hides_beside_one_that_is_wrong(entries: dict[str, Any]) -> None:
    with pytest.raises(BadWeightsFile):
        read(build({**entries, "w": {**F32, "shape": [4]}}))
