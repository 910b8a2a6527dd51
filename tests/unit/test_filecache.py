"""The cache of a node: within its bytes, whole files alone, and many processes at once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from purlkit.errors import CacheTooSmall, CacheUnusable, DataUnreachable
from purlkit.storage import filecache
from purlkit.storage.filecache import FileCache
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SIZE = 1000


def name_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


class Origin:
    """Where files of `SIZE` bytes come from, and how often each was asked for."""

    def __init__(self, cache: FileCache) -> None:
        self.cache = cache
        self.asked: list[int] = []

    def read(self, number: int) -> bytes:
        with self.cache.open(name_of(number), lambda: self._fetch(number)) as file:
            return file.read()

    def _fetch(self, number: int) -> tuple[int, Iterator[bytes]]:
        self.asked.append(number)
        content = bytes([number]) * SIZE
        return SIZE, iter([content[:300], content[300:]])


def held(folder: Path) -> int:
    """Bytes of all files but the count itself."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != filecache.TOTAL)


def counted(folder: Path) -> int:
    return int((folder / filecache.TOTAL).read_text())


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(FileCache(tmp_path, 5 * SIZE))


def test_what_is_here_is_not_fetched_again(origin: Origin, tmp_path: Path) -> None:
    assert [origin.read(1), origin.read(2), origin.read(1)] == [b"\1" * SIZE, b"\2" * SIZE, b"\1" * SIZE]

    assert origin.asked == [1, 2]
    assert held(tmp_path) == counted(tmp_path) == 2 * SIZE


def test_the_one_used_least_recently_goes_and_the_bound_holds(origin: Origin, tmp_path: Path) -> None:
    for number in (1, 2, 3, 4, 5, 1):
        origin.read(number)

    for number in range(6, 20):
        origin.read(number)
        assert held(tmp_path) <= 5 * SIZE
        assert held(tmp_path) == counted(tmp_path)
        origin.read(1)

    assert origin.asked == list(range(1, 20)), "1 was used all the time and never went"
    origin.read(2)
    assert origin.asked[-1] == 2


def test_a_file_in_use_stays_and_only_while_it_is(origin: Origin, tmp_path: Path) -> None:
    with origin.cache.open(name_of(1), lambda: origin._fetch(1)) as file:
        for number in range(2, 12):
            origin.read(number)

        assert (tmp_path / name_of(1)[:3] / name_of(1)).exists()
        assert file.read() == b"\1" * SIZE
    for number in range(12, 22):
        origin.read(number)
    assert not (tmp_path / name_of(1)[:3] / name_of(1)).exists()


def test_a_download_that_breaks_off_is_never_taken_for_whole(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(DataUnreachable, match="300 of 1000 bytes came"):
        origin.cache.open(name_of(1), lambda: (SIZE, iter([b"x" * 300])))
    with pytest.raises(OSError, match="the line is cut"):
        origin.cache.open(name_of(1), lambda: (SIZE, broken()))
    assert held(tmp_path) == counted(tmp_path) == 0

    assert origin.read(1) == b"\1" * SIZE


def broken() -> Iterator[bytes]:
    yield b"x" * 300
    raise OSError("the line is cut")


def test_what_can_find_no_room_says_what_to_do(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filecache, "ROOM_SECONDS", 0.2)
    with pytest.raises(CacheTooSmall, match="PURL_DATASETS_CACHE_BYTES"):
        origin.cache.open(name_of(1), lambda: (6 * SIZE, iter([b""])))

    in_use = [origin.cache.open(name_of(n), lambda n=n: origin._fetch(n)) for n in range(5)]  # type: ignore[misc]
    with pytest.raises(CacheTooSmall):
        origin.read(9)
    for file in in_use:
        file.close()
    assert origin.read(9) == b"\11" * SIZE
    assert held(tmp_path) == counted(tmp_path)


def test_what_else_lies_in_its_folder_is_left_alone(origin: Origin, tmp_path: Path) -> None:
    """A disk of its own has lost+found, and somebody may have named a folder of data sets."""
    (tmp_path / "lost+found" / "a folder").mkdir(parents=True)
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "a.JPEG").write_bytes(b"x" * SIZE)

    for number in range(12):
        origin.read(number)

    assert (tmp_path / "imagenet" / "a.JPEG").exists()
    assert [path.name for path in (tmp_path / "lost+found").iterdir()] == ["a folder"]
    assert counted(tmp_path) <= 5 * SIZE


def test_a_folder_that_can_not_be_used_is_named_and_no_file_is_blamed(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    origin = Origin(FileCache(tmp_path / "a file" / "cache", 5 * SIZE))

    with pytest.raises(CacheUnusable, match=r"Not a directory.*look at PURL_DATASETS_CACHE"):
        origin.read(1)


@pytest.mark.parametrize("most", ["20G", "-1", "1.5"])
def test_a_size_that_is_no_number_of_bytes_is_refused(most: str) -> None:
    with pytest.raises(CacheUnusable, match="PURL_DATASETS_CACHE_BYTES"):
        FileCache.of_this_node({"PURL_DATASETS_CACHE_BYTES": most})


def test_a_folder_of_somebody_else_in_the_temporary_folder_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has it could hand us any bytes, and links through which we would write."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"purl-datasets-{os.getuid()}"
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(CacheUnusable, match="others can write"):
        FileCache.of_this_node({})

    folder.unlink()
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with pytest.raises(CacheUnusable, match="others can write"):
        FileCache.of_this_node({})

    folder.rmdir()
    for _ in range(2):
        assert Origin(FileCache.of_this_node({})).read(1) == b"\1" * SIZE
    assert folder.stat().st_mode & 0o777 == 0o700


HANGS_IN_THE_MIDDLE = f"""
import sys, time
from pathlib import Path
from purlkit.storage.filecache import FileCache

def pieces():
    yield b"x" * 300
    sys.stdout.write("half\\n"); sys.stdout.flush()
    time.sleep(600)

FileCache(Path(sys.argv[1]), {5 * SIZE}).open(sys.argv[2], lambda: ({SIZE}, pieces()))
"""


def test_who_is_killed_in_the_middle_of_a_download_leaves_nothing_that_counts(origin: Origin, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HANGS_IN_THE_MIDDLE, str(tmp_path), name_of(1)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        assert held(tmp_path) == counted(tmp_path) == SIZE, "what is on its way is counted whole"
        child.kill()

    assert origin.read(1) == b"\1" * SIZE
    assert held(tmp_path) == counted(tmp_path) == SIZE

    with subprocess.Popen([*command[:-1], name_of(2)], stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
    for number in range(3, 9):  # until a cleaning comes by
        origin.read(number)
    assert [path.name for path in tmp_path.rglob("*.part")] == []
    assert held(tmp_path) == counted(tmp_path)


READS_ALL = f"""
import hashlib, random, sys
from pathlib import Path
from purlkit.storage.filecache import FileCache

cache, turns = FileCache(Path(sys.argv[1]), {5 * SIZE}), random.Random(int(sys.argv[2]))

def fetch(number):
    with open(sys.argv[3], "a") as log:
        log.write(f"{{number}}\\n")
    yield bytes([number]) * 300
    yield bytes([number]) * {SIZE - 300}

for _ in range(100):
    number = turns.choice([0, 1, 2, 3, 4, 5, 6, 7])
    name = hashlib.sha256(str(number).encode()).hexdigest()
    with cache.open(name, lambda: ({SIZE}, fetch(number))) as file:
        assert file.read() == bytes([number]) * {SIZE}
"""


def test_processes_that_share_it_read_whole_files_and_keep_its_bound(tmp_path: Path) -> None:
    """Four of them want eight files of which five have room."""
    folder, log = tmp_path / "cache", tmp_path / "log"
    folder.mkdir()
    most = 0

    def all_ended() -> bool:
        nonlocal most
        most = max(most, held_at_one_moment(folder))
        return all(reader.poll() is not None for reader in readers)

    readers = [
        subprocess.Popen([sys.executable, "-c", READS_ALL, str(folder), str(seed), str(log)], cwd=ROOT)
        for seed in range(4)
    ]
    wait_until("all have read", all_ended, seconds=300)

    assert [reader.returncode for reader in readers] == [0, 0, 0, 0]
    assert 0 < most <= 5 * SIZE
    assert held(folder) == counted(folder)
    assert list(folder.rglob("*.part")) == []


def held_at_one_moment(folder: Path) -> int:
    """Nothing comes or goes while somebody has the count."""
    with FileCache(folder, 0)._counted():
        return held(folder)
