"""A folder of bounded size for copies of files from elsewhere, shared by every process of a machine.

A copy is under its name whole or not at all: it is written beside and renamed once all its bytes are there and on disk.
Who has been asked for least recently goes first, and what anybody has open stays. All of that is held by locks of the
kernel, which end with their process: one that is killed leaves a part behind that the next cleaning removes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from purlkit.errors import CacheTooSmall, CacheUnusable, DataUnreachable, DiskFull

# How many bytes there will be, and the bytes.
Fetch = Callable[[], tuple[int, Iterator[bytes]]]

# What a node's cache may hold where PURL_DATASETS_CACHE_BYTES does not say.
CACHE_BYTES = 20 * 2**30

PART = ".part"
LOCK = "lock"
# The folders that a cleaning looks into. Beside them may lie what is not ours: lost+found, or somebody's data sets.
OURS = re.compile("[0-9a-f]{3}")
TOTAL = "bytes"
# A cleaning looks at every file: it makes room for more than the one that needs it.
KEPT_BY_A_CLEANING = 0.9
# For so long a file waits for others to be closed, where all that is here is in use.
ROOM_SECONDS = 60.0
LOOK_SECONDS = 0.1
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class FileCache:
    """All files in `folder` together, those that are being written included, hold at most `most_bytes`."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder.absolute()
        self._most = most_bytes

    @classmethod
    def of_this_node(cls, environ: Mapping[str, str] = os.environ) -> FileCache:
        folder = environ.get("PURL_DATASETS_CACHE") or _folder_of_ours()
        most = environ.get("PURL_DATASETS_CACHE_BYTES") or str(CACHE_BYTES)
        if not (most.isascii() and most.isdigit()):
            raise CacheUnusable("its size is no whole number of bytes")
        return cls(Path(folder), int(most))

    def open(self, name: str, fetch: Fetch) -> BinaryIO:
        """The file of this name, fetched where it is not here. It stays at least until it is closed.

        `name` is of hexadecimal digits, a new one for every content. Of several who ask at once one fetches.
        """
        path = self._folder / name[:3] / name
        try:
            while (file := _kept(path)) is None:
                self._keep(path, fetch)
        except OSError as problem:
            if problem.filename is None:  # of no path of ours: whoever fetches has troubles of their own
                raise
            if problem.errno in NO_ROOM:
                raise DiskFull from problem
            raise CacheUnusable(problem.strerror or "it can't be written") from problem
        return file

    def _keep(self, path: Path, fetch: Fetch) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One lock for a few hundred names: a lock for each would be as many files again.
        with _alone(path.parent / LOCK):
            if path.exists():
                return
            for broken_off in path.parent.glob(f"*{PART}"):  # whoever still wrote it would have the lock
                self._give_up(broken_off, broken_off.stat().st_size)
            size, pieces = fetch()
            part = path.with_name(path.name + PART)
            file = self._room_for(part, size)
            try:
                with file:
                    for piece in pieces:
                        file.write(piece)
                    if file.tell() != size:
                        raise DataUnreachable(f"{file.tell()} of {size} bytes came", remedy="look at the store")
                    file.flush()
                    os.fdatasync(file.fileno())
                with self._counted():  # a cleaning in the middle of it could count it under neither name
                    part.rename(path)
            except BaseException:
                self._give_up(part, size)
                raise

    def _room_for(self, part: Path, size: int) -> BinaryIO:
        """An empty file whose bytes are counted, and reserved on the disk, before the first of them is written."""
        deadline = time.monotonic() + ROOM_SECONDS
        while size <= self._most:
            with self._counted() as total:
                held = total.read()
                if held + size > self._most:
                    held = self._clean(self._most - size)
                    total.write(held)
                if held + size <= self._most:
                    # In this order: who is killed in between has counted too much, which the next cleaning puts right.
                    total.write(held + size)
                    try:
                        return _reserved(part, size)
                    except DiskFull:
                        total.write(held)
                        raise
            if time.monotonic() > deadline:
                break
            time.sleep(LOOK_SECONDS)
        raise CacheTooSmall(needed=size, most=self._most)

    def _give_up(self, part: Path, size: int) -> None:
        with self._counted() as total:
            part.unlink(missing_ok=True)
            total.write(max(0, total.read() - size))

    def _clean(self, goal: int) -> int:
        """Removes what nobody has used for longest; how much is left. The caller has the count for itself."""
        found: list[tuple[int, int, Path]] = []
        for folder in self._folder.iterdir():
            if OURS.fullmatch(folder.name) and folder.is_dir():
                _remove_broken_off(folder)
                for entry in os.scandir(folder):
                    if not entry.name.startswith(folder.name):
                        continue  # the lock, or no copy of ours
                    status = entry.stat()
                    found.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        left = sum(size for _, size, _ in found)
        goal = min(goal, int(KEPT_BY_A_CLEANING * self._most))
        for _, size, path in sorted(found):
            if left <= goal:
                break
            if path.suffix != PART and _removed(path):
                left -= size
        return left

    @contextmanager
    def _counted(self) -> Iterator[_Total]:
        """Whoever changes what is here has the count of it for itself."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with _alone(self._folder / TOTAL) as file:
            yield _Total(file)


class _Total:
    """How many bytes are here, in a file: never too few, for what is removed is counted off last."""

    def __init__(self, file: IO[bytes]) -> None:
        self._fd = file.fileno()

    def read(self) -> int:
        return int(os.pread(self._fd, 32, 0) or 0)

    def write(self, total: int) -> None:
        os.pwrite(self._fd, b"%-31d\n" % total, 0)


def _folder_of_ours() -> Path:
    """Under a name that anybody could have taken before, in a folder that anybody may write to."""
    folder = Path(tempfile.gettempdir()) / f"purl-datasets-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise CacheUnusable("others can write what has its name in the temporary folder")
    return folder


def _kept(path: Path) -> BinaryIO | None:
    """Open and locked against removal, as the most recently used of all; None where it is not here."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    if os.fstat(file.fileno()).st_nlink == 0:  # removed between the two
        file.close()
        return None
    now = time.time_ns()
    os.utime(file.fileno(), ns=(now, now))
    return file


def _removed(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink()
    return True


def _remove_broken_off(folder: Path) -> None:
    """Parts whose writers are gone: these would hold the folder's lock."""
    with (folder / LOCK).open("ab") as lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for part in folder.glob(f"*{PART}"):
            part.unlink()


def _reserved(part: Path, size: int) -> BinaryIO:
    file = part.open("wb")
    try:
        if size:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as problem:
        file.close()
        part.unlink()
        if problem.errno in NO_ROOM:
            raise DiskFull from problem
        raise
    return file


@contextmanager
def _alone(path: Path) -> Iterator[IO[bytes]]:
    path.touch()
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
