"""Where files are kept: on a disk or in a bucket."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.artifacts import LocalStore
from services.errors import DigestMismatch, NotFound, StoreFull, StoreUnavailable
from tests.integration.stores import LocalShelf, S3Shelf, Shelf, put
from tests.s3 import S3Server

DATA = b"weights " * 100_000
SHA256 = hashlib.sha256(DATA).hexdigest()


class TestStore:
    """The same for a folder and for a bucket."""

    def test_keeps_what_was_written_under_its_sha256(self, shelf: Shelf) -> None:
        with shelf.store.begin() as writer:
            for start in range(0, len(DATA), 65_536):
                writer.write(DATA[start : start + 65_536])
            blob = writer.commit(expected_sha256=SHA256)

        assert (blob.sha256, blob.bytes) == (SHA256, len(DATA))
        with shelf.store.open(SHA256) as file:
            assert file.read() == DATA
        assert shelf.names() == [SHA256]

    def test_nothing_exists_before_the_commit(self, shelf: Shelf) -> None:
        with shelf.store.begin() as writer:
            writer.write(DATA)
            writer.seal()
            with pytest.raises(NotFound):
                shelf.store.open(SHA256)

    def test_a_writer_that_is_left_early_leaves_nothing(self, shelf: Shelf) -> None:
        with pytest.raises(ZeroDivisionError), shelf.store.begin() as writer:
            writer.write(bytes(1 // 0))

        assert shelf.names() == []

    def test_other_bytes_than_announced_are_thrown_away(self, shelf: Shelf) -> None:
        writer = shelf.store.begin()
        writer.write(DATA[:-1])

        with pytest.raises(DigestMismatch):
            writer.commit(expected_sha256=SHA256)

        assert shelf.names() == []

    def test_the_same_bytes_by_many_writers_are_one_file(self, shelf: Shelf) -> None:
        with ThreadPoolExecutor(8) as pool:
            assert {blob.sha256 for blob in pool.map(lambda _: put(shelf.store, DATA), range(16))} == {SHA256}

        assert shelf.names() == [SHA256]

    @pytest.mark.parametrize(("first", "last"), [(0, None), (0, 0), (5, 9), (700_000, None), (799_999, 799_999)])
    def test_a_part_of_it(self, shelf: Shelf, first: int, last: int | None) -> None:
        put(shelf.store, DATA)

        with shelf.store.open(SHA256, first=first, last=last) as file:
            wanted = DATA[first:] if last is None else DATA[first : last + 1]
            assert file.read(len(wanted)) == wanted

    def test_nothing_is_something_too(self, shelf: Shelf) -> None:
        """The log of a process that never said a word."""
        blob = put(shelf.store, b"")

        with shelf.store.open(blob.sha256) as file:
            assert (blob.bytes, file.read()) == (0, b"")

    def test_what_is_removed_is_gone_and_may_come_back(self, shelf: Shelf) -> None:
        put(shelf.store, DATA)

        shelf.store.remove(SHA256)
        shelf.store.remove(SHA256)
        with pytest.raises(NotFound):
            shelf.store.open(SHA256)

        put(shelf.store, DATA)
        with shelf.store.open(SHA256) as file:
            assert file.read() == DATA

    def test_lists_what_is_its_own_and_how_old_it_is(self, shelf: Shelf) -> None:
        put(shelf.store, DATA)
        for name in ("README", f"zz/{SHA256}", f"{SHA256[:2]}/{SHA256}.bak"):
            shelf.put_beside(name)

        listed = dict(shelf.store.listing())

        assert list(listed) == [SHA256]
        assert -5 < listed[SHA256] < 60

    @pytest.mark.parametrize(
        "name", ["", "0" * 64, SHA256.upper(), SHA256[:63], SHA256 + "\n", "../" * 21 + "x", "/etc/passwd", "\0" * 64]
    )
    def test_opens_nothing_but_a_sha256_that_it_has(self, shelf: Shelf, name: str) -> None:
        with pytest.raises(NotFound):
            shelf.store.open(name)


def test_a_file_of_many_parts_arrives_whole_and_is_never_held_whole(shelf: Shelf) -> None:
    piece = bytes(range(256)) * 4096
    digest = hashlib.sha256()
    tracemalloc.start()

    with shelf.store.begin() as writer:
        for number in range(48):
            part = number.to_bytes(4, "big") + piece
            digest.update(part)
            writer.write(part)
        blob = writer.commit()
    received = hashlib.sha256()
    with shelf.store.open(blob.sha256) as file:
        while part := file.read(256 * 1024):
            received.update(part)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received.digest() == digest.digest()
    assert peak < 16 * 2**20


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "artifacts")


def files(store: LocalStore) -> list[str]:
    return LocalShelf(store).names()


def test_a_spoilt_copy_is_mended_by_the_next_writer(store: LocalStore) -> None:
    put(store, DATA)
    store.path(SHA256).write_bytes(b"spoilt")

    put(store, DATA)

    assert store.path(SHA256).read_bytes() == DATA


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(store: LocalStore) -> None:
    """On the kernel's own full device, which takes no byte."""
    writer = store.begin()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer.fileno())
    os.close(full)

    with pytest.raises(StoreFull, match="PURL_ARTIFACTS"):
        writer.write(DATA)

    assert files(store) == []


def test_a_disk_that_fails_is_not_called_full(store: LocalStore) -> None:
    writer = store.begin()
    os.close(writer.fileno())

    with pytest.raises(StoreUnavailable):
        writer.write(DATA)

    assert files(store) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
@pytest.mark.parametrize(
    ("module", "call"), [(os, "fsync"), (Path, "replace"), (Path, "mkdir"), (os, "open")], ids=lambda part: str(part)
)
def test_a_disk_that_fails_at_any_step_of_a_commit_leaves_no_half_file(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, module: Any, call: str, code: int
) -> None:
    """What the kernel would answer, at the one call that is being tried."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with store.begin() as writer:
        writer.write(DATA)
        with monkeypatch.context() as broken:
            broken.setattr(module, call, fail)
            with pytest.raises(StoreFull if code == errno.ENOSPC else StoreUnavailable):
                writer.commit()

    assert [name for name in files(store) if name != SHA256] == []
    put(store, DATA)
    assert store.path(SHA256).read_bytes() == DATA


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_a_spool_that_fails_keeps_everything_out_of_the_bucket(
    s3: S3Server, bucket: str, tmp_path: Path, code: int
) -> None:
    class Failing(io.BytesIO):
        def write(self, _: Any, /) -> int:
            raise OSError(code, os.strerror(code))

    shelf = S3Shelf(s3.store(bucket, tmp_path / "spool"))
    shelf.store.spool_file = Failing  # type: ignore[method-assign]

    with pytest.raises(StoreFull if code == errno.ENOSPC else StoreUnavailable):
        put(shelf.store, DATA)

    assert shelf.names() == []


WRITES_AND_WAITS = """
import sys, time
from pathlib import Path
from services.artifacts import LocalStore, S3Store
from services.settings import S3Location
kind, place = sys.argv[1:]
folder = Path(place)
store = LocalStore(folder) if kind == "disk" else S3Store(S3Location("bucket", ""), spool=folder, region="us-east-1")
writer = store.begin()
writer.write(b"half a file")
print("written", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("kind", "left"), [("disk", 1), ("s3", 0)])
def test_of_a_writer_that_is_killed_no_more_is_left_than_the_cleaner_clears_up(
    tmp_path: Path, kind: str, left: int
) -> None:
    """A folder has its unfinished file, for the cleaner to find; the spool's files have no name to leave."""
    command = [sys.executable, "-c", WRITES_AND_WAITS, kind, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writing:
        assert writing.stdout is not None
        assert writing.stdout.readline() == b"written\n"
        writing.kill()

    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == left
    assert LocalStore(tmp_path).clear_unfinished(older_than_seconds=-1) == left


def test_writers_that_were_killed_are_cleared_up_after_a_grace(store: LocalStore) -> None:
    killed, writing = store.begin(), store.begin()
    killed.write(DATA)
    writing.write(DATA)
    (old,) = (path for path in (store.root / "tmp").iterdir() if path.samefile(f"/proc/self/fd/{killed.fileno()}"))
    os.utime(old, (0, 0))

    assert store.clear_unfinished(older_than_seconds=60) == 1

    assert writing.commit().sha256 == SHA256
    assert files(store) == [SHA256]
    killed.abort()
