"""A folder as the store: finished files as blobs/ab/<sha256>, unfinished ones below tmp/."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from services.artifacts.store import Blob, Writer, check_name, disk_errors, is_sha256
from services.errors import BadSetting, NotFound


class LocalStore:
    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            new = [folder for folder in (root, *root.parents) if not folder.exists()]
            for folder in (root / "blobs", root / "tmp"):
                folder.mkdir(parents=True, exist_ok=True)
            # A folder of which its own has no name yet would be gone with all that is in it.
            for folder in (root, *(made.parent for made in new)):
                _sync_folder(folder)
        except OSError as error:
            remedy = "choose a folder that this account may write to"
            raise BadSetting("PURL_ARTIFACTS", f"can't be used ({error.strerror})", remedy=remedy) from error

    def begin(self) -> LocalWriter:
        return LocalWriter(self.root)

    def path(self, sha256: str) -> Path:
        """Where these bytes are. NotFound for anything but a sha256 whose bytes are here."""
        path = self._place(check_name(sha256))
        if not path.is_file():
            raise NotFound("file")
        return path

    def open(self, sha256: str, *, first: int = 0, last: int | None = None) -> BinaryIO:  # noqa: ARG002
        try:
            file = self.path(sha256).open("rb")
        except FileNotFoundError:
            raise NotFound("file") from None
        file.seek(first)
        return file

    def link(self, sha256: str, *, seconds: int) -> str | None:  # noqa: ARG002
        return None

    def remove(self, sha256: str) -> None:
        with disk_errors():
            self._place(check_name(sha256)).unlink(missing_ok=True)

    def listing(self) -> Iterator[tuple[str, float]]:
        for path in (self.root / "blobs").glob("??/*"):
            ours = is_sha256(path.name) and path == self._place(path.name)
            if ours and (age := _age_seconds(path)) is not None:
                yield path.name, age

    def clear_unfinished(self, *, older_than_seconds: float) -> int:
        """A writer that still writes keeps its file young."""
        cleared = 0
        for path in (self.root / "tmp").iterdir():
            age = _age_seconds(path)
            if age is not None and age > older_than_seconds:
                path.unlink(missing_ok=True)
                cleared += 1
        return cleared

    def check(self) -> None:
        with self.begin() as writer:
            writer.write(b"?")

    def _place(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256[:2] / sha256


class LocalWriter(Writer):
    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "tmp" / secrets.token_hex(16)
        with disk_errors():
            file = self._path.open("xb")
        super().__init__(file)

    def fileno(self) -> int:
        return self._file.fileno()

    def _keep(self, blob: Blob) -> None:
        folder = self._root / "blobs" / blob.sha256[:2]
        os.fsync(self._file.fileno())
        self._file.close()
        folder.mkdir(exist_ok=True)
        # Over an older copy as well: should the disk have spoilt that one, this mends it.
        self._path.replace(folder / blob.sha256)
        _sync_folder(folder)
        _sync_folder(folder.parent)

    def abort(self) -> None:
        super().abort()
        self._path.unlink(missing_ok=True)


def _age_seconds(path: Path) -> float | None:
    """None for what has gone meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    """A new name is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
