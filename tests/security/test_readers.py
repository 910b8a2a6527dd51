"""The readers of safetensors and gzip: any bytes end in tensors or in a refusal, and in memory of about their size.

`make security` goes on with each kind of file for SECURITY_SECONDS.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from purlkit import checkpoint
from purlkit.checkpoint.inflate import Inflated
from purlkit.errors import BadWeightsFile, PurlError
from purlkit.header import read_header
from tests.security.doors import a_weights_file

MIB = 2**20
SECONDS = float(os.environ.get("SECURITY_SECONDS", "0"))

fuzzing = settings(max_examples=2000 if SECONDS else 100, database=None, suppress_health_check=list(HealthCheck))


def for_a_while(fuzz: Callable[[], None]) -> None:
    """Once, or again and again: each time with other bytes."""
    until = time.monotonic() + SECONDS
    fuzz()
    while time.monotonic() < until:
        fuzz()


def test_the_reader_of_headers_survives_anything() -> None:
    @fuzzing
    @given(st.one_of(st.binary(max_size=400), headers(), mutants()))
    def fuzz(content: bytes) -> None:
        assert reads(io.BytesIO(content), len(content)) in ("read", "refused")

    for_a_while(fuzz)


def test_the_reader_of_gzip_survives_anything() -> None:
    @fuzzing
    @given(
        st.one_of(
            st.binary(max_size=400),
            mutants().map(gzip.compress),
            headers().map(gzip.compress).flatmap(mutated),
        )
    )
    def fuzz(content: bytes) -> None:
        stream = Inflated(io.BytesIO(content))
        if reads(stream, None) == "read":
            with suppress(BadWeightsFile):
                stream.expect_end()

    for_a_while(fuzz)


@pytest.mark.parametrize("kind", [".safetensors", ".safetensors.gz"])
def test_whatever_a_file_holds_its_model_is_loaded_whole_or_not_at_all(kind: str, tmp_path: Path) -> None:
    """Up to the tensors: into a network that the unharmed file fits, in less than twice its size."""
    model, path = nn.Linear(256, 256), tmp_path / f"net{kind}"
    sound = checkpoint.to_bytes(checkpoint.tensors_of(model), metadata={"a": "b"})
    begin = 8 + int.from_bytes(sound[:8], "little") + 64
    packed = gzip.compress(sound, 1) if kind.endswith(".gz") else sound
    told = {"loaded": 0, "refused": 0}
    path.write_bytes(packed)
    checkpoint.load(path, model)  # what torch makes once and keeps

    @fuzzing
    @given(mutated(packed, within=begin))
    def fuzz(content: bytes) -> None:
        path.write_bytes(content)
        before = checkpoint.fingerprint(model)
        taken = Memory()
        try:
            checkpoint.load(path, model)
            told["loaded"] += 1
        except PurlError:
            told["refused"] += 1
            assert checkpoint.fingerprint(model) == before
        assert taken.at_most() < 2 * len(sound) + MIB

    for_a_while(fuzz)
    assert told["refused"] > 10


class Memory:
    """Of this process, as the kernel counts it: Python's, torch's and zlib's together."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        self._before = self._read("VmRSS")

    def at_most(self) -> int:
        return self._read("VmHWM") - self._before

    def _read(self, what: str) -> int:
        found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1]) * 1024


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A file of 32 MiB, and the same gzipped, whose bytes hardly shrink."""
    folder = tmp_path_factory.mktemp("large")
    content = checkpoint.to_bytes({"weight": torch.rand(2048, 4096)}, metadata={})
    (folder / "net.safetensors").write_bytes(content)
    (folder / "net.safetensors.gz").write_bytes(gzip.compress(content, 1))
    return folder, len(content)


@pytest.mark.parametrize("name", ["net.safetensors", "net.safetensors.gz"])
def test_loading_a_file_takes_less_than_twice_its_size(large: tuple[Path, int], name: str) -> None:
    folder, size = large
    model = nn.Linear(4096, 2048, bias=False)

    taken = Memory()
    checkpoint.load(folder / name, model)

    assert taken.at_most() < 2 * size


def test_so_does_one_of_numbers_that_have_to_be_converted(tmp_path: Path) -> None:
    path, model = tmp_path / "net.safetensors", nn.Linear(4096, 4096, bias=False)
    path.write_bytes(checkpoint.to_bytes({"weight": torch.ones(4096, 4096, dtype=torch.float16)}, metadata={}))

    taken = Memory()
    checkpoint.load(path, model)

    assert taken.at_most() < 2 * path.stat().st_size
    assert bool((model.weight == 1).all())


def a_bomb(header: bytes, *, zeros: int = 64 * MIB) -> bytes:
    """What inflates to a thousand times its size."""
    return gzip.compress(header + bytes(zeros), 1)


def header_of(**tensors: list[int]) -> bytes:
    """Of float32 tensors, one behind the other."""
    entries, position = {}, 0
    for name, shape in tensors.items():
        size = 4 * torch.Size(shape).numel()
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


BOMBS = {
    "zeros": lambda: a_bomb(b""),
    "what is no header": lambda: a_bomb(b"\xff" * 8),
    "a header that goes on": lambda: a_bomb(struct.pack("<Q", 2 * MIB) + b"{"),
    "a large tensor": lambda: a_bomb(header_of(weight=[4, 4], bias=[64 * MIB])),
    "one of 128 TiB": lambda: a_bomb(header_of(weight=[4, 4], bias=[2**45])),
    "more behind the tensors": lambda: a_bomb(header_of(bias=[4], weight=[4, 4])),
    "a bomb in a bomb": lambda: gzip.compress(a_bomb(header_of(bias=[4], weight=[4, 4])), 1),
    "a name without an end": lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 32 * MIB,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_of_gzip_is_refused_in_little_memory(bomb: Callable[[], bytes], tmp_path: Path) -> None:
    """Some mebibytes for the largest header that is read at all, whatever it would inflate to."""
    path, model = tmp_path / "net.safetensors.gz", nn.Linear(4, 4)
    path.write_bytes(bomb())

    taken = Memory()
    with pytest.raises(PurlError):
        checkpoint.load(path, model)

    assert taken.at_most() < 16 * MIB


def test_reading_a_header_takes_memory_of_its_size() -> None:
    """A file of 4 MiB with the largest header that ordinary tensors would make."""
    names = {f"block.{n}.weight": {"dtype": "F32", "shape": [100], "data_offsets": [400 * n, 400 * n + 400]}
             for n in range(9000)}  # fmt: skip
    text = json.dumps(names).encode()
    file = struct.pack("<Q", len(text)) + text + bytes(400 * len(names))
    tracemalloc.start()
    try:
        assert len(read_header(io.BytesIO(file), len(file))) == 9000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 2 * len(file) + 4 * MIB


def reads(file: Any, size: int | None) -> str:
    try:
        read_header(file, size)
    except BadWeightsFile:
        return "refused"
    return "read"


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Files whose header is JSON of about the right kind."""
    number = st.one_of(st.integers(-5, 50), st.integers(), st.floats(), st.booleans(), st.none())
    tensor = st.fixed_dictionaries(
        {"dtype": st.sampled_from(["F32", "F16", "I64", "X", ""]), "shape": st.lists(number, max_size=10)},
        optional={"data_offsets": st.lists(number, max_size=3), "more": number},
    )
    said = json.dumps(draw(st.dictionaries(st.text(max_size=5), st.one_of(tensor, number), max_size=4))).encode()
    return struct.pack("<Q", draw(st.sampled_from([len(said), len(said) + 1, 0]))) + said + draw(st.binary(max_size=64))


def mutants() -> st.SearchStrategy[bytes]:
    return mutated(a_weights_file())


def mutated(file: bytes, *, within: int | None = None) -> st.SearchStrategy[bytes]:
    """The file with a few other bytes, of its first so many, and perhaps cut or continued."""
    at = st.integers(0, min(within or len(file), len(file)) - 1)
    changes = st.lists(st.tuples(at, st.integers(0, 255)), max_size=4)

    def change(told: tuple[list[tuple[int, int]], int, bytes]) -> bytes:
        made = bytearray(file)
        for at, value in told[0]:
            made[at] = value
        return bytes(made[: told[1]]) + told[2]

    end = st.one_of(st.just(len(file)), st.integers(0, len(file)))
    return st.tuples(changes, end, st.one_of(st.just(b""), st.binary(max_size=20))).map(change)
