"""How much may wait and how much may be stored. Asked at the door only: what has begun always gets to its end."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, func, literal, select, union
from sqlalchemy.orm import Session

from services.errors import QueueFull, StorageQuota
from services.settings import Settings
from services.states import JobState
from services.tables import Artifact, Job, SavedBlob, UploadedWeights


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """None: no limit."""

    queued: int | None = None
    stored_bytes: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Quotas:
        return cls(queued=settings.max_queued, stored_bytes=settings.max_stored_bytes)


NONE = Quotas()


def check(session: Session, quotas: Quotas) -> None:
    """Refuses one more job."""
    check_storage(session, quotas)
    if quotas.queued is None:
        return
    # Steps over as many as may wait, and no further.
    if session.connection().execute(_NTH_WAITING, {"skipped": quotas.queued - 1}).first() is not None:
        raise QueueFull(limit=quotas.queued)


_NTH_WAITING = (
    select(literal(1)).select_from(Job).where(Job.state == JobState.QUEUED).limit(1).offset(bindparam("skipped"))
)


def check_storage(session: Session, quotas: Quotas, *, more: int = 0) -> None:
    """Refuses more bytes. What is full takes none at all."""
    if quotas.stored_bytes is not None and stored_bytes(session) + max(1, more) > quotas.stored_bytes:
        raise StorageQuota(limit=quotas.stored_bytes)


def stored_bytes(session: Session) -> int:
    """Of everything that a row names, equal bytes counted once."""
    tables = (Artifact, SavedBlob, UploadedWeights)
    named = union(*(select(table.sha256, table.bytes) for table in tables)).subquery()
    return int(session.scalars(select(func.coalesce(func.sum(named.c.bytes), 0))).one())
