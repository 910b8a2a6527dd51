"""A folder as the store."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from services.artifacts.store import Blob
from services.errors import DigestMismatch, NotFound, StoreFull

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class LocalStore:
    """A folder: finished files as blobs/ab/<sha256>, unfinished ones below tmp/."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in (root / "blobs", root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(root)

    def begin(self) -> LocalWriter:
        return LocalWriter(self)

    def path(self, sha256: str) -> Path:
        """Where these bytes are. NotFound for anything but a sha256 whose bytes are here."""
        if _SHA256.fullmatch(sha256) is None:
            raise NotFound("file")
        path = self.root / "blobs" / sha256[:2] / sha256
        if not path.is_file():
            raise NotFound("file")
        return path

    def open(self, sha256: str) -> BinaryIO:
        return self.path(sha256).open("rb")


class LocalWriter:
    def __init__(self, store: LocalStore) -> None:
        self._root = store.root
        self._path = store.root / "tmp" / secrets.token_hex(16)
        self._digest = hashlib.sha256()
        self._bytes = 0
        with self._cleanly():
            self._file = self._path.open("xb")

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, data: bytes) -> None:
        with self._cleanly():
            self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def commit(self, expected_sha256: str | None = None) -> Blob:
        sha256 = self._digest.hexdigest()
        if expected_sha256 is not None and expected_sha256 != sha256:
            self.abort()
            raise DigestMismatch
        folder = self._root / "blobs" / sha256[:2]
        with self._cleanly():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            folder.mkdir(exist_ok=True)
            # Over an older copy as well: should the disk have spoilt that one, this mends it.
            self._path.replace(folder / sha256)
            _sync_folder(folder)
            _sync_folder(folder.parent)
        return Blob(sha256=sha256, bytes=self._bytes)

    def abort(self) -> None:
        """Fine to repeat, and after a commit it does nothing."""
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()

    @contextmanager
    def _cleanly(self) -> Iterator[None]:
        """Whatever fails leaves no half file behind, and a full disk is told apart from a broken one."""
        try:
            yield
        except OSError as problem:
            if hasattr(self, "_file"):
                self.abort()
            if problem.errno in _FULL:
                raise StoreFull from problem
            raise


def _sync_folder(folder: Path) -> None:
    """A new name is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
