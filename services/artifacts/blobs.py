"""Which bytes the store may hold, so that what no row names can be removed without ever touching what one names.

Two who don't know of each other must not meet badly: one sends bytes that have lain in the store unnamed for long, the
other removes just these. Each blob has a row here, and its lock decides between them:

  announce   before the bytes go to the store, the row is there and fresh
  confirm    in the transaction that names them, the row must still be there: else the bytes are asked for again
  remove     under the row's lock: named by nobody, not fresh; the bytes go, then the row, in one transaction

Confirmed first, the remover sees the name. Removed first, whoever confirms finds no row. No clock decides: the grace
only saves work.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import exists, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.artifacts.store import Blob, Store, Writer
from services.database import Database, clock, now_ms
from services.errors import SweptMeanwhile
from services.tables import Artifact, SavedBlob, StoredBlob, UploadedWeights
from services.tenants import EVERYBODYS

# Every column that names stored bytes; a test finds one that is missing here.
NAMING = (Artifact.sha256, SavedBlob.sha256, UploadedWeights.sha256)


def keep(db: Database, writer: Writer, expected_sha256: str | None = None) -> Blob:
    """Commits what a writer took in. Only then may a row name it."""
    blob = writer.seal(expected_sha256)
    with db.write() as session:
        announce(session, blob.sha256)
    return writer.commit()


def announce(session: Session, sha256: str) -> None:
    """These bytes are about to be stored, and to be named soon after."""
    if not _touch(session, sha256) and not adopt(session, sha256, touched_at=clock(session)):
        _touch(session, sha256)


def confirm(session: Session, sha256: str) -> None:
    """A row of this transaction names these bytes: nobody may have removed them since they were announced."""
    if not _touch(session, sha256):
        raise SweptMeanwhile


def adopt(session: Session, sha256: str, *, touched_at: int) -> bool:
    """A row for bytes that have none; False if they got one meanwhile."""
    try:
        with session.begin_nested():
            session.add(StoredBlob(sha256=sha256, touched_at=touched_at))
    except IntegrityError:
        return False
    return True


def unnamed(session: Session, *, idle_ms: int) -> list[str]:
    """What was last announced or confirmed longer ago than that, and has no name."""
    old = StoredBlob.touched_at < clock(session) - idle_ms
    query = select(StoredBlob.sha256).where(old, *(~exists().where(c == StoredBlob.sha256) for c in NAMING))
    return list(session.scalars(query))


def remove_unnamed(db: Database, store: Store, candidates: Iterable[str], *, idle_ms: int = 0) -> int:
    """A transaction for each, so that nobody waits for longer than one removal takes."""
    removed = 0
    for sha256 in candidates:
        with db.write() as session:
            row = session.get(StoredBlob, sha256, with_for_update=True)
            if row is None or row.touched_at > clock(session) - idle_ms or _is_named(session, sha256):
                continue
            store.remove(sha256)
            session.delete(row)
            removed += 1
    return removed


def _touch(session: Session, sha256: str) -> bool:
    touched = update(StoredBlob).where(StoredBlob.sha256 == sha256).values(touched_at=now_ms())
    return session.execute(touched.returning(StoredBlob.sha256)).one_or_none() is not None


def _is_named(session: Session, sha256: str) -> bool:
    # Whoever names them: bytes are stored once for all tenants.
    named = (select(exists().where(column == sha256)).execution_options(**EVERYBODYS) for column in NAMING)
    return any(session.scalar(query) for query in named)
