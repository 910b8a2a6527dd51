"""Ends attempts: their processes first, so that the log is whole, then everything that follows from it.

A dispatcher gives up attempts wherever they run, and ends processes only in its own place: one machine, or one cluster.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from services import artifacts, attempts, logs, scheduling
from services.artifacts import Blob, Store
from services.attempts.endings import Cause
from services.database import Database, clock
from services.errors import StoreFull, StoreUnavailable
from services.launch import Launcher
from services.patience import noting
from services.settings import Settings
from services.tables import PLACE, Attempt

log = logging.getLogger(__name__)


class Ender:
    """Of one dispatcher."""

    def __init__(
        self, db: Database, settings: Settings, launcher: Launcher, store: Store, *, place: str, linger_seconds: float
    ) -> None:
        self._db = db
        self._settings = settings
        self._launcher = launcher
        self._store = store
        self._place = place
        self._linger_ms = linger_seconds * 1000

    def has_died(self, attempt: Attempt) -> bool:
        return attempt.handle is not None and self._is_here(attempt) and not self._launcher.alive(attempt.handle)

    def why_dead(self, attempt: Attempt, *, unheard: bool) -> str:
        told = self._launcher.why_dead(attempt.handle) if attempt.handle is not None else None
        return told or f"its process died {'before it reported' if unheard else 'without a last word'}"

    def give_up(self, attempt: Attempt, reason: str, cause: Cause, *, at_once: bool = False) -> None:
        """A live one: its job goes back when its processes are gone, or at least told."""
        named = {"job_id": attempt.job_id, "attempt_id": attempt.id}
        log.warning("job %s: attempt %d is given up: %s", attempt.job_id, attempt.number, reason, extra=named)
        with self._db.write() as session:
            attempts.condemn(session, attempt, reason=reason, cause=cause)
        self._end(attempt, at_once=at_once, rescue=(reason, cause))

    def clear_up(self, errors: list[Exception]) -> None:
        """What attempts left behind that have had their last word, or lost it."""
        with noting(errors):
            with self._db.read() as session:
                ended, now = attempts.unreaped(session), clock(session)
                attended = scheduling.places(session)
            for attempt in ended:
                lingers = now - (attempt.ended_at or now) > self._linger_ms
                if not self._is_here(attempt):
                    # Whoever could end its processes has gone; the worker ends itself with its lease.
                    over = lingers and attempt.place not in attended
                else:
                    over = lingers or attempt.handle is None or not self._launcher.alive(attempt.handle)
                if over:
                    with noting(errors):
                        self._end(attempt)
        with noting(errors):
            with self._db.read() as session:
                left, attended = attempts.leftovers(session), scheduling.places(session)
            for leftover in left:
                handle = dict(leftover.handle)
                place = handle.pop(PLACE, None)
                if place != self._place and place in attended:
                    continue
                with noting(errors):
                    self._launcher.end(handle)
                    with self._db.write() as session:
                        attempts.cleared(session, leftover)

    def ask_all_to_drain(self) -> None:
        """By heartbeat and by signal: whichever comes first."""
        with self._db.write() as session:
            live = self._here(attempts.live(session))
            for attempt in live:
                attempts.request_drain(session, attempt.id)
        for attempt in live:
            if attempt.handle is not None:
                self._launcher.ask_to_drain(attempt.handle)

    def end_all(self, errors: list[Exception]) -> None:
        with self._db.read() as session:
            live, ended = self._here(attempts.live(session)), self._here(attempts.unreaped(session))
        for attempt in live:
            with noting(errors):
                reason = "the service stopped before its work was saved"
                self.give_up(attempt, reason, "drained", at_once=True)
        for attempt in ended:
            with noting(errors):
                self._end(attempt, at_once=True)

    def any_left(self) -> bool:
        """Attempts of this place that live, or whose processes may."""
        with self._db.read() as session:
            return bool(self._here(attempts.live(session)) or self._here(attempts.unreaped(session)))

    def _end(self, attempt: Attempt, *, at_once: bool = False, rescue: tuple[str, Cause] | None = None) -> None:
        """Processes first, so that the log is whole; then everything that follows from it, in one transaction."""
        here, kept = self._is_here(attempt), None
        if here:
            if attempt.handle is not None:
                self._launcher.end(attempt.handle, at_once=at_once)
            kept = self._keep_log(attempt)
        with self._db.write() as session:
            if rescue is not None:
                reason, cause = rescue
                attempts.rescue(session, attempt, reason=reason, cause=cause)
            if kept is not None:
                artifacts.replace_log(session, attempt, kept)
            # Of one that was given up from elsewhere the processes are left to a dispatcher of its own place.
            if here or rescue is None:
                attempts.reaped(session, attempt.id)

    def _keep_log(self, attempt: Attempt) -> Blob | None:
        """A store that is away or full, or a disk that fails, costs the log and never the rescue."""
        try:
            return logs.keep_tail(logs.path_of(attempt.id, self._settings.data_dir), self._db, self._store)
        except (StoreFull, StoreUnavailable, OSError) as problem:
            log.warning("job %s: the log of attempt %d is not kept: %s", attempt.job_id, attempt.number, problem)
            return None

    def _is_here(self, attempt: Attempt) -> bool:
        """Whether its processes are to be seen and ended from here. Attempts of the first release had no place."""
        return attempt.place in (self._place, None, "")

    def _here(self, found: Sequence[Attempt]) -> list[Attempt]:
        return [attempt for attempt in found if self._is_here(attempt)]
