"""What the rest of the service knows of a store: bytes go in through a writer and come out by their sha256."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Protocol, Self


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Bytes that the store holds."""

    sha256: str
    bytes: int


class Writer(Protocol):
    """Takes bytes in; nothing exists under a name before `commit` returns. Leaving the `with` early aborts."""

    def write(self, data: bytes) -> None: ...
    def commit(self, expected_sha256: str | None = None) -> Blob: ...
    def abort(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class Store(Protocol):
    def begin(self) -> Writer: ...
    def open(self, sha256: str) -> BinaryIO: ...
