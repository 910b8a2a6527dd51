"""Removes what nobody needs any more, and nothing else: run by the dispatcher now and then, or by hand.

What is removed, each after a grace in which somebody may still be at it:
  jobs that ended longer ago than PURL_KEEP_DAYS, where that is set
  uploaded weights that no job names, PURL_KEEP_WEIGHTS_DAYS after anybody last had to do with them
  saved work of ended jobs: no attempt will go on from it
  what attempts uploaded and never published before they ended
  answers to dry runs, and Idempotency-Keys that have run out
  files of writers that were killed, and bytes in the store that no row names
  logs on this machine whose attempt or check is over; the job keeps its own copy
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from purlkit.errors import PurlError
from services import artifacts, jobs, weights
from services.artifacts import Store, blobs
from services.database import Database, clock
from services.ids import is_id
from services.settings import Settings
from services.states import ENDED, LIVE
from services.tables import Artifact, Attempt, Check, IdempotencyKey, Job, SavedBlob, StoredBlob

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
# Of a dry run's answer layers and range are used again by the same question, for so long.
KEEP_CHECKS_MS = 7 * DAY_MS
# A service that is restarted often is cleaned all the same, and one that starts has better things to do.
FIRST_CLEAN_SECONDS = 60.0
# So many jobs in one transaction: nobody waits long for it.
JOBS_AT_ONCE = 20
# For these all jobs are looked through once more, which takes longer than to remove a few rows.
WEIGHTS_AT_ONCE = 500


@dataclass
class Cleaned:
    """How many of each were removed."""

    jobs: int = 0
    weights: int = 0
    saved: int = 0
    staged: int = 0
    checks: int = 0
    keys: int = 0
    unfinished: int = 0
    blobs: int = 0
    logs: int = 0

    def __str__(self) -> str:
        counted = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ", ".join(f"{name} {count}" for name, count in counted if count) or "nothing"


class Cleaner:
    """Cleans now and then, in a thread of its own: a store that answers slowly holds nobody else up."""

    def __init__(self, db: Database, store: Store, settings: Settings) -> None:
        self._db, self._store, self._settings = db, store, settings
        self._thread: threading.Thread | None = None
        self._due_at = time.monotonic() + min(FIRST_CLEAN_SECONDS, settings.clean_seconds)

    def now_and_then(self) -> None:
        if time.monotonic() < self._due_at or (self._thread is not None and self._thread.is_alive()):
            return
        self._due_at = time.monotonic() + self._settings.clean_seconds
        self._thread = threading.Thread(target=self._clean, name="cleaning", daemon=True)
        self._thread.start()

    def _clean(self) -> None:
        try:
            log.info("cleaned: %s", clean(self._db, self._store, self._settings))
        except (PurlError, DBAPIError) as error:
            log.warning("the cleaning is put off: %s", getattr(error, "orig", error))
        except Exception:
            log.exception("the cleaning failed")


def clean(db: Database, store: Store, settings: Settings) -> Cleaned:
    """Fine to run at any time, by several at once, and to be killed in."""
    grace_ms = round(settings.clean_grace_seconds * 1000)
    cleaned = Cleaned()
    cleaned.jobs = _delete_old_jobs(db, settings.keep_days)
    cleaned.weights = _forget_weights(db, settings.keep_weights_days)
    with db.write() as session:
        cleaned.saved = _free_saved_work(session, grace_ms)
        cleaned.staged = _free_staged(session, grace_ms)
        cleaned.checks, cleaned.keys = _forget(session)
    cleaned.unfinished = store.clear_unfinished(older_than_seconds=settings.clean_grace_seconds)
    _adopt(db, store)
    with db.read() as session:
        unnamed = blobs.unnamed(session, idle_ms=grace_ms)
    cleaned.blobs = artifacts.remove_unnamed(db, store, unnamed, idle_ms=grace_ms)
    cleaned.logs = _remove_logs(db, settings.data_dir / "logs", settings.clean_grace_seconds)
    return cleaned


def _delete_old_jobs(db: Database, keep_days: float) -> int:
    if not keep_days:
        return 0
    deleted = 0
    while True:
        with db.write() as session:
            old = Job.finished_at < clock(session) - round(keep_days * DAY_MS)
            found = list(session.scalars(select(Job.id).where(Job.state.in_(ENDED), old).limit(JOBS_AT_ONCE)))
            for job_id in found:
                jobs.delete(session, job_id)
        deleted += len(found)
        if len(found) < JOBS_AT_ONCE:
            return deleted


def _forget_weights(db: Database, keep_days: float) -> int:
    if not keep_days:
        return 0
    idle_ms, forgotten = round(keep_days * DAY_MS), 0
    with db.read() as session:
        unused = weights.unused(session, idle_ms=idle_ms)
    for start in range(0, len(unused), WEIGHTS_AT_ONCE):
        with db.write() as session:
            forgotten += weights.forget(session, unused[start : start + WEIGHTS_AT_ONCE], idle_ms=idle_ms)
    return forgotten


def _free_saved_work(session: Session, grace_ms: int) -> int:
    ended = select(Job.id).where(Job.state.in_(ENDED), Job.finished_at < clock(session) - grace_ms)
    return _count(session, delete(SavedBlob).where(SavedBlob.job_id.in_(ended)))


def _free_staged(session: Session, grace_ms: int) -> int:
    over = select(Attempt.id).where(Attempt.state.not_in(LIVE), Attempt.ended_at < clock(session) - grace_ms)
    return _count(session, delete(Artifact).where(Artifact.published_at.is_(None), Artifact.attempt_id.in_(over)))


def _forget(session: Session) -> tuple[int, int]:
    now = clock(session)
    checks = delete(Check).where(Check.expires_at < now - KEEP_CHECKS_MS)
    keys = delete(IdempotencyKey).where(IdempotencyKey.expires_at < now)
    return _count(session, checks), _count(session, keys)


def _count(session: Session, statement: object) -> int:
    return session.execute(statement).rowcount  # type: ignore[call-overload, no-any-return]


def _adopt(db: Database, store: Store) -> None:
    """Bytes without a row: of a process that was killed at the wrong moment, or of a restored database."""
    with db.read() as session:
        known = set(session.scalars(select(StoredBlob.sha256)))
        now = clock(session)
    for sha256, age_seconds in store.listing():
        if sha256 not in known:
            with db.write() as session:
                blobs.adopt(session, sha256, touched_at=now - round(age_seconds * 1000))


def _remove_logs(db: Database, folder: Path, grace_seconds: float) -> int:
    removed = 0
    for path, row_id in _logs(folder):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime < grace_seconds:
                continue
        with db.read() as session:
            attempt = session.get(Attempt, row_id)
        # An attempt whose processes are not known to be gone may still write, and its log is yet to be kept.
        if attempt is None or (attempt.state not in LIVE and attempt.handle is None):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _logs(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in folder.glob("*.log"):
        if is_id(path.stem, "att") or is_id(path.stem, "chk"):
            yield path, path.stem
