"""What an attempt says while it runs: pieces in order for as long as it lives, then one file."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from purlkit.results import LOG
from services.attempts.work import fence
from services.errors import LogGap, NotFound, TooLarge
from services.logs import KEPT_BYTES
from services.tables import Artifact, Attempt, LogChunk


@dataclass(frozen=True, kw_only=True)
class AttemptLog:
    """`whole` once the attempt has sent its log as a file; before that so many bytes of it are here."""

    attempt_id: str
    whole: Artifact | None
    size: int


def append_log(session: Session, attempt: Attempt, start: int, data: bytes) -> int:
    """How long the log is now. Bytes that are here already are passed over, so sending them again is fine."""
    attempt, _ = fence(session, attempt)
    size = _size(session, attempt.id)
    if start > size:
        raise LogGap(expected=size)
    new = data[size - start :]
    if not new:
        return size
    if size + len(new) > KEPT_BYTES:
        raise TooLarge(limit=KEPT_BYTES)
    session.add(LogChunk(attempt_id=attempt.id, start=size, data=new))
    session.flush()
    return size + len(new)


def find_log(session: Session, job_id: str, number: int) -> AttemptLog:
    query = select(Attempt.id).where(Attempt.job_id == job_id, Attempt.number == number)
    attempt_id = session.scalars(query).one_or_none()
    if attempt_id is None:
        raise NotFound("attempt")
    whole = session.get(Artifact, (attempt_id, LOG))
    return AttemptLog(
        attempt_id=attempt_id, whole=whole, size=whole.bytes if whole is not None else _size(session, attempt_id)
    )


def read_log(session: Session, attempt_id: str, first: int, last: int) -> bytes:
    """The bytes from `first` to `last`, both included, of a log that grows."""
    chunks = (
        select(LogChunk)
        .where(LogChunk.attempt_id == attempt_id, LogChunk.start <= last)
        .where(LogChunk.start + func.length(LogChunk.data) > first)
        .order_by(LogChunk.start)
    )
    found = list(session.scalars(chunks))
    if not found:
        return b""
    skipped = first - found[0].start
    return b"".join(chunk.data for chunk in found)[skipped : skipped + last - first + 1]


def _size(session: Session, attempt_id: str) -> int:
    end = LogChunk.start + func.length(LogChunk.data)
    last = select(end).where(LogChunk.attempt_id == attempt_id).order_by(LogChunk.start.desc()).limit(1)
    return session.scalars(last).one_or_none() or 0
