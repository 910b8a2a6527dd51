"""Both stores, for tests that hold for either."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass

import obstore

from services.artifacts import Blob, LocalStore, S3Store, Store


@dataclass(frozen=True)
class LocalShelf:
    """The store, and a look behind it."""

    store: LocalStore

    def names(self) -> list[str]:
        """Everything that is there, finished or not."""
        return sorted(path.name for path in self.store.root.rglob("*") if path.is_file())

    def age(self, sha256: str, seconds: float) -> None:
        then = time.time() - seconds
        os.utime(self.store.path(sha256), (then, then))

    def put_beside(self, name: str) -> None:
        """Somebody else's file in our folder."""
        path = self.store.root / "blobs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not ours")
        os.utime(path, (0, 0))


@dataclass(frozen=True)
class S3Shelf:
    store: S3Store

    def names(self) -> list[str]:
        pages = obstore.list(self.store._bucket)
        in_bucket = [found["path"].rpartition("/")[2] for page in pages for found in page]
        return sorted([*in_bucket, *(path.name for path in self.store._spool.iterdir())])

    def age(self, sha256: str, seconds: float) -> None:
        """S3's clock is its own: nothing here can be made older than it is."""

    def put_beside(self, name: str) -> None:
        obstore.put(self.store._bucket, f"blobs/{name}", b"not ours")


Shelf = LocalShelf | S3Shelf


def put(store: Store, data: bytes) -> Blob:
    with store.begin() as writer:
        writer.write(data)
        return writer.commit()


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
