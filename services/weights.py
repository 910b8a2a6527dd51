"""Uploaded weights: content-addressed, so that the same file twice is one row of each tenant that has sent it, and
removed when no job needs them.

Somebody may submit a job for weights just as the cleaner comes for them. The row of their bytes decides: whoever names
them moves it in the same transaction, and whoever forgets them holds it. One of the two sees what the other did.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from purlkit.spec import JobSpec, Uploaded
from services import artifacts, paging
from services.artifacts import Blob
from services.database import clock
from services.errors import InvalidCursor
from services.paging import Page
from services.tables import Job, StoredBlob, UploadedWeights
from services.tenants import tenant_of

_SHA256 = re.compile(r"[0-9a-f]{64}")

# What a job's spec names, or NULL. Whether it waits, runs or has ended, it may be retried.
_NAMED = Job.spec["model"]["weights"]["sha256"].as_string()


def record(session: Session, blob: Blob, tensors: int) -> UploadedWeights:
    """Makes a stored file known as weights; fine to repeat."""
    artifacts.confirm(session, blob.sha256)
    if not _is_known(session, blob.sha256):
        row = {"sha256": blob.sha256, "bytes": blob.bytes, "tensors": tensors, "created_at": clock(session)}
        session.execute(insert(UploadedWeights).values({**row, "tenant": tenant_of(session)}))
    return session.get_one(UploadedWeights, (tenant_of(session), blob.sha256), populate_existing=True)


def find(session: Session, sha256: str) -> UploadedWeights | None:
    """As the session's tenant has sent them; a worker's session takes those of whoever has."""
    return session.scalars(select(UploadedWeights).where(UploadedWeights.sha256 == sha256).limit(1)).first()


def page(session: Session, *, limit: int = 50, after: str | None = None) -> Page[UploadedWeights]:
    """What the session's tenant has sent, in the order of the sums: an index has it, and it is nobody's clock."""
    query = select(UploadedWeights).order_by(UploadedWeights.sha256).limit(limit + 1)
    if after is not None:
        last = paging.decode(after)
        if not _SHA256.fullmatch(last):
            raise InvalidCursor
        query = query.where(UploadedWeights.sha256 > last)
    items, has_more = paging.cut(list(session.scalars(query)), limit)
    return Page(items=items, has_more=has_more, next=paging.encode(items[-1].sha256) if has_more else None)


def hold(session: Session, spec: JobSpec) -> bool:
    """Before a job of this spec is written, or asked about: whether what it names is here. If so, it stays for now."""
    chosen = spec.model.weights
    return not isinstance(chosen, Uploaded) or _touch(session, chosen.sha256)


def let_go(session: Session, job_id: str) -> None:
    """The job is being deleted: from now on its weights have their time."""
    named = session.scalar(select(_NAMED).where(Job.id == job_id))
    if named is not None:
        _touch(session, named)


def unused(session: Session, *, idle_ms: int, among: Sequence[str] | None = None) -> list[str]:
    """What no job names, and nobody has named or sent for so long."""
    idle = StoredBlob.touched_at < clock(session) - idle_ms
    unnamed = UploadedWeights.sha256.not_in(select(_NAMED).where(_NAMED.is_not(None)))
    query = select(UploadedWeights.sha256).distinct().join(StoredBlob, StoredBlob.sha256 == UploadedWeights.sha256)
    if among is not None:
        query = query.where(UploadedWeights.sha256.in_(among))
    return list(session.scalars(query.where(idle, unnamed)))


def forget(session: Session, candidates: Sequence[str], *, idle_ms: int) -> int:
    """Removes those that are still unused. Their bytes are then nobody's."""
    locked = select(StoredBlob.sha256).where(StoredBlob.sha256.in_(candidates)).order_by(StoredBlob.sha256)
    held = session.scalars(locked.with_for_update()).all()
    # Whoever was just naming one of them has done so by now.
    doomed = unused(session, idle_ms=idle_ms, among=held)
    session.execute(delete(UploadedWeights).where(UploadedWeights.sha256.in_(doomed)))
    return len(doomed)


def _touch(session: Session, sha256: str) -> bool:
    """Whoever is removing them has done so when this returns, or will see that they were touched."""
    if find(session, sha256) is None:
        return False
    artifacts.announce(session, sha256)
    return _is_known(session, sha256)


def _is_known(session: Session, sha256: str) -> bool:
    """Asked of the database, whatever this session has seen before."""
    return session.scalar(select(UploadedWeights.sha256).where(UploadedWeights.sha256 == sha256).limit(1)) is not None
