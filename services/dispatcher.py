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
from collections.abc import Sequence
from contextlib import closing
from math import inf

from purlkit.startup import leave, loading

with loading():
    from purlkit.errors import PurlError
    from services import attempts, logs, metrics, scheduling
    from services.artifacts import Store, open_store
    from services.attempts.endings import Cause
    from services.cleaning import Cleaner
    from services.database import Database, clock
    from services.ending import Ender
    from services.errors import BadSetting
    from services.ids import new_id
    from services.launch import Capacity, Launcher, launcher_for
    from services.patience import noting, pause, tell, wait_for
    from services.settings import Settings
    from services.starting import Starter
    from services.stopping import PARENT_FD, Stop
    from services.telling import Pulse, telling

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
        self._sole = sole  # the only one of its place: what it leaves behind when it stops, nobody looks after
        self.id = new_id("dsp")
        # The logs of attempts lie below the data folder: who has another one can't keep them.
        self._place = place = f"{launcher.place} {settings.data_dir}"
        self._announced_at = -inf
        self._has: Capacity | None = None  # what the place was found to have
        self._starter = Starter(db, settings, launcher, place=place, worker=worker)
        self._ender = Ender(db, settings, launcher, store, place=place, linger_seconds=linger_seconds)
        self._cleaner = Cleaner(db, store, settings)
        self.pulse = Pulse()

    def run(self, stop: Stop) -> bool:
        """Until asked to stop, then the drain; whether that left nothing behind."""
        failures = 0
        while not stop.asked:
            try:
                with metrics.a_pass():
                    self.tick()
                failures = 0
            except ExceptionGroup as group:
                failures += 1
                tell(group.exceptions)
            self.pulse.beat()
            stop.wait(pause(self._settings.poll_seconds, failures))
        return self.drain(stop)

    def tick(self) -> None:
        """What fails does not keep the rest from being done; all failures are raised together at the end."""
        errors: list[Exception] = []
        with noting(errors):
            self._announce()
        self._watch(errors)
        self._ender.clear_up(errors)
        with noting(errors):
            self._starter.fill(self._has)
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
                if not asked:
                    self._ender.ask_all_to_drain()
                    asked = True
                self._watch(errors, draining=True)
                self._ender.clear_up(errors)
                if not errors and not self._ender.any_left():
                    return True
            tell(errors)
            stop.wait(self._settings.poll_seconds)
        for _ in range(LAST_TRIES):
            errors = []
            with noting(errors):
                if self._leave_to_others():
                    return True
                self._ender.end_all(errors)
            tell(errors)
            if not errors:
                return True
        return False

    def _announce(self) -> None:
        if time.monotonic() - self._announced_at < ANNOUNCE_SECONDS:
            return
        self._has = self._launcher.capacity()
        with self._db.write() as session:
            scheduling.announce(session, self._settings, self.id, self._place, self._has)
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
                live = attempts.live(session)
                expired = {attempt.id for attempt in attempts.expired(session)}
                # Behind that look: a lease which it found to be over is over by this clock too.
                now = clock(session)
                stalled = {attempt.id for attempt in attempts.stalled(session)}
                deaf = {attempt.id for attempt in attempts.deaf(session)}
            for attempt in live:
                cause: Cause = "lost"
                unheard = attempt.started_at is None
                if self._ender.has_died(attempt):
                    reason = self._ender.why_dead(attempt, unheard=unheard)
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
                    self._ender.give_up(attempt, reason, cause)


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
            if options.drain:
                clean = dispatcher.drain(stop)
            else:
                with telling(settings, db, dispatcher.pulse):
                    clean = dispatcher.run(stop)
    except PurlError as error:
        print(f"purl: {error}", file=sys.stderr)
        return 1
    return 0 if clean else 1


if __name__ == "__main__":
    leave(main())
