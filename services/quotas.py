"""How much may wait and how much may be stored, of each tenant and in all.

Asked at the door only: what has begun always gets to its end. How many run at once is the scheduler's business.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Select, String, bindparam, func, literal, select, union
from sqlalchemy.orm import Session

from services.errors import QueueFull, StorageQuota
from services.settings import Settings
from services.states import JobState
from services.tables import Artifact, Job, SavedBlob, UploadedWeights
from services.tenants import EVERYBODYS, tenant_of


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """None: no limit."""

    queued: int | None = None
    stored_bytes: int | None = None
    tenant_queued: int | None = None
    tenant_stored_bytes: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Quotas:
        return cls(
            queued=settings.max_queued,
            stored_bytes=settings.max_stored_bytes,
            tenant_queued=settings.tenant_queued,
            tenant_stored_bytes=settings.tenant_stored_bytes,
        )


NONE = Quotas()


def check(session: Session, quotas: Quotas) -> None:
    """Refuses one more job."""
    check_storage(session, quotas)
    if quotas.queued is not None and _are_so_many(session, _WAITING, quotas.queued):
        raise QueueFull(limit=quotas.queued)
    if quotas.tenant_queued is not None and _are_so_many(session, _MINE, quotas.tenant_queued):
        raise QueueFull(limit=quotas.tenant_queued, whose="your")


def _are_so_many(session: Session, query: Select[int], count: int) -> bool:
    """Steps over as many as may be, and no further."""
    asked = {"others": count - 1, "tenant": tenant_of(session)}
    return session.connection().execute(query, asked).first() is not None


# Asked of the connection, for everybody waits in the one queue: see services.tenants.
_WAITING = select(literal(1)).select_from(Job).where(Job.state == JobState.QUEUED).limit(1).offset(bindparam("others"))
_MINE = _WAITING.where(Job.tenant == bindparam("tenant", type_=String))


def check_storage(session: Session, quotas: Quotas, *, more: int = 0) -> None:
    """Refuses more bytes. What is full takes none at all."""
    if quotas.stored_bytes is not None and stored_bytes(session, of_all=True) + max(1, more) > quotas.stored_bytes:
        raise StorageQuota(limit=quotas.stored_bytes)
    if quotas.tenant_stored_bytes is not None and stored_bytes(session) + max(1, more) > quotas.tenant_stored_bytes:
        raise StorageQuota(limit=quotas.tenant_stored_bytes, whose="your")


def stored_bytes(session: Session, *, of_all: bool = False) -> int:
    """Of everything that a row of the session's tenant names, equal bytes counted once; or of any tenant."""
    tables = (Artifact, SavedBlob, UploadedWeights)
    named = union(*(select(table.sha256, table.bytes) for table in tables)).subquery()
    total = select(func.coalesce(func.sum(named.c.bytes), 0))
    return int(session.scalars(total.execution_options(**(EVERYBODYS if of_all else {}))).one())
