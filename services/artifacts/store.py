"""What the rest of the service knows of a store: bytes go in through a writer and come out by their sha256."""

from __future__ import annotations

import errno
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from services.errors import DigestMismatch, NotFound, StoreFull, StoreUnavailable

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Bytes that the store holds."""

    sha256: str
    bytes: int


class Store(Protocol):
    """Puts are idempotent: the same bytes have the same name, and a name has never more than one content."""

    def begin(self) -> Writer: ...

    def open(self, sha256: str, *, first: int = 0, last: int | None = None) -> BinaryIO:
        """The bytes from `first` to `last`, both included. NotFound for anything but a sha256 whose bytes are here."""

    def link(self, sha256: str, *, seconds: int) -> str | None:
        """An address that gives these bytes to whoever has it, for so long; None where a store has no such thing."""

    def remove(self, sha256: str) -> None:
        """Fine to repeat. Only services.artifacts.blobs may call it: it knows that no row names these bytes."""

    def listing(self) -> Iterator[tuple[str, float]]:
        """Every name that has bytes, and for how many seconds it has had them. What is not ours is passed over."""

    def clear_unfinished(self, *, older_than_seconds: float) -> int:
        """Removes what writers left behind that were killed."""

    def check(self) -> None:
        """StoreUnavailable or StoreFull if a writer that began now would fail."""


class Writer(ABC):
    """Takes bytes in; nothing exists under a name before `commit` returns. Leaving the `with` early aborts."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> None:
        with self._cleanly():
            self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def seal(self, expected_sha256: str | None = None) -> Blob:
        """All bytes are here: what they will be called. Refuses other bytes than those that were announced."""
        blob = Blob(sha256=self._digest.hexdigest(), bytes=self._bytes)
        if expected_sha256 not in (None, blob.sha256):
            self.abort()
            raise DigestMismatch
        return blob

    def commit(self, expected_sha256: str | None = None) -> Blob:
        blob = self.seal(expected_sha256)
        with self._cleanly():
            self._file.flush()
            self._keep(blob)
        return blob

    @abstractmethod
    def _keep(self, blob: Blob) -> None:
        """Make the bytes last under their name, all at once."""

    def abort(self) -> None:
        """Fine to repeat, and after a commit it does nothing."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()

    @contextmanager
    def _cleanly(self) -> Iterator[None]:
        """Whatever fails leaves no half file behind."""
        try:
            with disk_errors():
                yield
        except BaseException:
            self.abort()
            raise


@contextmanager
def disk_errors() -> Iterator[None]:
    """A full disk is told apart from a broken one."""
    try:
        yield
    except OSError as problem:
        raise (StoreFull() if problem.errno in _FULL else StoreUnavailable()) from problem


def is_sha256(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None


def check_name(sha256: str) -> str:
    if not is_sha256(sha256):
        raise NotFound("file")
    return sha256
