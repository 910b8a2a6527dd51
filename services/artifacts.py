"""Files: bytes in a store under their sha256, and the rows that say which of them belong to a job.

A row is written only after its bytes are safely on disk, so what a row names always exists.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from purlkit.results import LOG
from services.database import clock
from services.errors import ArtifactConflict, DigestMismatch, NotFound, StoreFull
from services.tables import Artifact, Attempt, LogChunk

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


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


def list_published(session: Session, job_id: str) -> list[Artifact]:
    published = select(Artifact).where(Artifact.job_id == job_id, Artifact.published_at.is_not(None))
    return list(session.scalars(published.order_by(Artifact.name)))


def find(session: Session, job_id: str, name: str) -> Artifact:
    """The published artifact of that name; NotFound if there is none."""
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.name == name, Artifact.published_at.is_not(None))
    artifact = session.scalars(query).one_or_none()
    if artifact is None:
        raise NotFound("artifact")
    return artifact


def staged(session: Session, attempt: Attempt, name: str) -> Artifact | None:
    """What the attempt uploaded under that name, published or not."""
    return session.get(Artifact, (attempt.id, name))


def stage(session: Session, attempt: Attempt, name: str, blob: Blob, media_type: str) -> Artifact:
    """The same bytes again are fine, others are not; except for the log, which grows and is visible at once."""
    known = staged(session, attempt, name)
    if known is not None and known.sha256 != blob.sha256 and name != LOG:
        raise ArtifactConflict
    if known is None:
        known = Artifact(attempt_id=attempt.id, job_id=attempt.job_id, name=name, created_at=clock(session))
        session.add(known)
    known.sha256, known.bytes, known.media_type = blob.sha256, blob.bytes, media_type
    session.flush()
    if name == LOG:
        session.execute(delete(LogChunk).where(LogChunk.attempt_id == attempt.id))
        publish(session, known)
    return known


def replace_log(session: Session, attempt: Attempt, blob: Blob) -> None:
    """The log of an attempt that can't upload it any more."""
    stage(session, attempt, LOG, blob, "text/plain; charset=utf-8")


def publish(session: Session, artifact: Artifact) -> None:
    """Makes it the job's own under its name, in place of an earlier attempt's. Each attempt's log stays its own."""
    earlier = (
        Artifact.job_id == artifact.job_id,
        Artifact.name == artifact.name,
        Artifact.attempt_id != artifact.attempt_id,
        Artifact.published_at.is_not(None),
    )
    if artifact.name == LOG:
        session.execute(update(Artifact).where(*earlier).values(published_at=None))
    else:
        session.execute(delete(Artifact).where(*earlier))
    artifact.published_at = clock(session)
    session.flush()
