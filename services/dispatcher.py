"""Gives queued jobs to attempts, and gives up attempts that are dead, silent, stuck or deaf.

`python -m services.dispatcher` is a process of its own and keeps nothing in memory that matters: attempts survive it,
and the next dispatcher finds them by their handles.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from math import inf
from pathlib import Path

from purlkit.errors import PurlError
from services import artifacts, attempts, logs, scheduling
from services.artifacts import Blob, Store, open_store
from services.attempts import Claim
from services.attempts.endings import Cause
from services.cleaning import Cleaner
from services.database import Database, clock
from services.errors import BadSetting, StoreFull, StoreUnavailable
from services.ids import new_id
from services.launch import Handle, Launcher, launcher_for
from services.patience import noting, pause, tell, wait_for
from services.settings import Settings
from services.stopping import PARENT_FD, Stop
from services.tables import Attempt

log = logging.getLogger(__name__)

# A worker has taken Ray down before its last word, so what follows it is only the end of an interpreter.
LINGER_SECONDS = 10.0
# Several times within what the others take for presence.
ANNOUNCE_SECONDS = 5.0
# The drain's end must be on record even if the database is busy at that very moment.
LAST_TRIES = 3


class Dispatcher:
    """One pass over everything that waits or runs, again and again.

    Several may share a database. Each gives out jobs from the one line and gives up attempts whose leases have run
    out, but sees and ends processes only in its own place: one machine, or one cluster.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        launcher: Launcher,
        store: Store,
        *,
        worker: str = "workers.run",
        linger_seconds: float = LINGER_SECONDS,
        sole: bool = True,
    ) -> None:
        self._db = db
        self._settings = settings
        self._launcher = launcher
        self._store = store
        self._worker = worker
        self._linger_ms = linger_seconds * 1000
        self._sole = sole  # the only one of its place: what it leaves behind when it stops, nobody looks after
        self.id = new_id("dsp")
        # The logs of attempts lie below the data folder: who has another one can't keep them.
        self._place = f"{launcher.place} {settings.data_dir}"
        self._announced_at = -inf
        self._cleaner = Cleaner(db, store, settings)

    def run(self, stop: Stop) -> bool:
        """Until asked to stop, then the drain; whether that left nothing behind."""
        failures = 0
        while not stop.asked:
            try:
                self.tick()
                failures = 0
            except ExceptionGroup as group:
                failures += 1
                tell(group.exceptions)
            stop.wait(pause(self._settings.poll_seconds, failures))
        return self.drain(stop)

    def tick(self) -> None:
        """What fails does not keep the rest from being done; all failures are raised together at the end."""
        errors: list[Exception] = []
        with noting(errors):
            self._announce()
        self._watch(errors)
        self._clear_up(errors)
        with noting(errors):
            self._fill()
        self._cleaner.now_and_then()
        if errors:
            raise ExceptionGroup("a pass of the dispatcher failed in part", errors)

    def drain(self, stop: Stop) -> bool:
        """Ask every attempt of this place to save its work and leave, wait for that, and end what is left."""
        deadline = time.monotonic() + self._settings.drain_seconds
        asked = False
        while time.monotonic() < deadline and not stop.hurried:
            errors: list[Exception] = []
            with noting(errors):
                if self._leave_to_others():
                    return True
                asked = asked or self._ask_all_to_drain()
                self._watch(errors, draining=True)
                self._clear_up(errors)
                if not errors and not self._any_left():
                    return True
            tell(errors)
            stop.wait(self._settings.poll_seconds)
        for _ in range(LAST_TRIES):
            errors = []
            with noting(errors):
                if self._leave_to_others():
                    return True
                self._end_all(errors)
            tell(errors)
            if not errors:
                return True
        return False

    def _announce(self) -> None:
        if time.monotonic() - self._announced_at < ANNOUNCE_SECONDS:
            return
        with self._db.write() as session:
            scheduling.announce(session, self._settings, self.id, self._place)
        self._announced_at = time.monotonic()

    def _leave_to_others(self) -> bool:
        """Nothing more is claimed here. Whether another dispatcher of this place goes on with the attempts."""
        with self._db.write() as session:
            scheduling.withdraw(session, self.id)
            return not self._sole and self._place in scheduling.places(session)

    def _watch(self, errors: list[Exception], *, draining: bool = False) -> None:
        """Live attempts that can't go on are ended whole before their jobs go back: never two at once."""
        with noting(errors):
            with self._db.read() as session:
                live, now = attempts.live(session), clock(session)
                expired = {attempt.id for attempt in attempts.expired(session)}
                stalled = {attempt.id for attempt in attempts.stalled(session)}
                deaf = {attempt.id for attempt in attempts.deaf(session)}
            for attempt in live:
                cause: Cause = "lost"
                unheard = attempt.started_at is None
                if self._has_died(attempt):
                    reason = self._why_dead(attempt, unheard=unheard)
                    cause = "drained" if draining else "lost"
                elif attempt.id in expired and attempt.lease_until >= now:
                    reason = "its job has run for its timeout_seconds"
                elif attempt.id in expired and unheard:
                    reason = f"it did not report within {attempt.lease_seconds:g} s: can it reach PURL_PUBLIC_URL?"
                elif attempt.id in expired:
                    reason = f"its lease ran out: nothing was heard from it for {attempt.lease_seconds:g} s"
                elif attempt.id in stalled:
                    cause = "stalled"
                    reason = f"it hung: no step and no batch ended within {attempts.patience_of(attempt):g} s"
                elif attempt.id in deaf:
                    reason = f"it did not follow the request to cancel within {attempt.lease_seconds:g} s"
                else:
                    continue
                with noting(errors):
                    self._give_up(attempt, reason, cause)

    def _clear_up(self, errors: list[Exception]) -> None:
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
                left = attempts.leftovers(session)
            for leftover in left:
                with noting(errors):
                    self._launcher.end(leftover.handle)
                    with self._db.write() as session:
                        attempts.cleared(session, leftover)

    def _fill(self) -> None:
        while True:
            with self._db.write() as session:
                claim = attempts.claim(session, self._settings, place=self._place)
            if claim is None:
                return
            self._launch(claim)

    def _launch(self, claim: Claim) -> None:
        def record(handle: Handle) -> None:
            with self._db.write() as session:
                attempts.launched(session, claim.attempt_id, handle)

        try:
            self._launcher.launch(
                self._environment(claim),
                module=self._worker,
                name=f"{claim.job_id}-a{claim.number}",
                log_path=self._log_path(claim.attempt_id),
                record=record,
            )
        except Exception as error:
            # Without this the job would wait for a lease that nobody holds.
            with self._db.write() as session:
                attempt = session.get_one(Attempt, claim.attempt_id)
                why = str(error) if isinstance(error, PurlError) else type(error).__name__
                attempts.rescue(session, attempt, reason=f"its process could not be started: {why}")
            raise
        log.info("job %s: attempt %d started as %s", claim.job_id, claim.number, claim.attempt_id)

    def _environment(self, claim: Claim) -> Mapping[str, str]:
        return {
            "PURL_URL": self._settings.public_url or "",
            "PURL_ATTEMPT": claim.attempt_id,
            "PURL_TOKEN": claim.token,
            "PURL_DATASETS_DIR": str(self._settings.datasets_dir),
            "PURL_RAY_ADDRESS": self._settings.ray_address,
            "PURL_DOWNLOAD": "1" if self._settings.download else "",
        }

    def _is_here(self, attempt: Attempt) -> bool:
        """Whether its processes are to be seen and ended from here. Attempts of the first release had no place."""
        return attempt.place in (self._place, None, "")

    def _has_died(self, attempt: Attempt) -> bool:
        return attempt.handle is not None and self._is_here(attempt) and not self._launcher.alive(attempt.handle)

    def _here(self, found: Sequence[Attempt]) -> list[Attempt]:
        return [attempt for attempt in found if self._is_here(attempt)]

    def _why_dead(self, attempt: Attempt, *, unheard: bool) -> str:
        told = self._launcher.why_dead(attempt.handle) if attempt.handle is not None else None
        return told or f"its process died {'before it reported' if unheard else 'without a last word'}"

    def _ask_all_to_drain(self) -> bool:
        """By heartbeat and by signal: whichever comes first."""
        with self._db.write() as session:
            live = self._here(attempts.live(session))
            for attempt in live:
                attempts.request_drain(session, attempt.id)
        for attempt in live:
            if attempt.handle is not None:
                self._launcher.ask_to_drain(attempt.handle)
        return True

    def _end_all(self, errors: list[Exception]) -> None:
        with self._db.read() as session:
            live, ended = self._here(attempts.live(session)), self._here(attempts.unreaped(session))
        for attempt in live:
            with noting(errors):
                reason = "the service stopped before its work was saved"
                self._give_up(attempt, reason, "drained", at_once=True)
        for attempt in ended:
            with noting(errors):
                self._end(attempt, at_once=True)

    def _give_up(self, attempt: Attempt, reason: str, cause: Cause, *, at_once: bool = False) -> None:
        log.warning("job %s: attempt %d is given up: %s", attempt.job_id, attempt.number, reason)
        with self._db.write() as session:
            attempts.condemn(session, attempt, reason=reason, cause=cause)
        self._end(attempt, at_once=at_once, rescue=(reason, cause))

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
        """A store that is away or full costs the log, and never the rescue."""
        try:
            return logs.keep_tail(self._log_path(attempt.id), self._db, self._store)
        except (StoreFull, StoreUnavailable) as problem:
            log.warning("job %s: the log of attempt %d is not kept: %s", attempt.job_id, attempt.number, problem)
            return None

    def _any_left(self) -> bool:
        """Attempts of this place that live, or whose processes may."""
        with self._db.read() as session:
            return bool(self._here(attempts.live(session)) or self._here(attempts.unreaped(session)))

    def _log_path(self, attempt_id: str) -> Path:
        return self._settings.data_dir / "logs" / f"{attempt_id}.log"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m services.dispatcher", description="starts and watches attempts")
    parser.add_argument("--drain", action="store_true", help="only end what runs, in order, and exit")
    parser.add_argument("--now", action="store_true", help="with --drain: without waiting for anything")
    options = parser.parse_args(arguments)
    logs.set_up("dispatcher")
    try:
        settings = Settings.from_environ(os.environ)
        if settings.public_url is None:
            raise BadSetting("PURL_PUBLIC_URL", "is not set", remedy="say where attempts reach the API")
        with closing(Database.open(settings.database_url)) as db, closing(Stop.of_this_process()) as stop:
            wait_for(db, stop)
            # The supervisor has the data folder to itself, and whoever drains means all that is there.
            sole = options.drain or PARENT_FD in os.environ
            launcher, store = launcher_for(settings, os.environ), open_store(settings)
            dispatcher = Dispatcher(db, settings, launcher, store, sole=sole)
            log.info("draining" if options.drain else "looking after the queue")
            if options.now:
                stop.ask()
                stop.ask()
            clean = dispatcher.drain(stop) if options.drain else dispatcher.run(stop)
    except PurlError as error:
        print(f"purl: {error}", file=sys.stderr)
        return 1
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
