"""Starts attempts: what is next in the queue goes to the launcher, with all that a worker needs to report."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from purlkit.errors import PurlError
from services import attempts, logs
from services.attempts import Claim
from services.database import Database
from services.launch import Capacity, Handle, Launcher
from services.settings import Settings
from services.tables import Attempt

log = logging.getLogger(__name__)


class Starter:
    """Of one dispatcher. What it claims belongs to the dispatcher's place."""

    def __init__(self, db: Database, settings: Settings, launcher: Launcher, *, place: str, worker: str) -> None:
        self._db = db
        self._settings = settings
        self._launcher = launcher
        self._place = place
        self._worker = worker

    def fill(self, has: Capacity | None) -> None:
        """As many as may start now, in a place that has so much."""
        while True:
            with self._db.write() as session:
                claim = attempts.claim(session, self._settings, place=self._place, has=has)
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
                log_path=logs.path_of(claim.attempt_id, self._settings.data_dir),
                record=record,
            )
        except Exception as error:
            # Without this the job would wait for a lease that nobody holds.
            with self._db.write() as session:
                attempt = session.get_one(Attempt, claim.attempt_id)
                why = str(error) if isinstance(error, PurlError) else type(error).__name__
                attempts.rescue(session, attempt, reason=f"its process could not be started: {why}")
            raise
        named = {"job_id": claim.job_id, "attempt_id": claim.attempt_id}
        log.info("job %s: attempt %d started as %s", claim.job_id, claim.number, claim.attempt_id, extra=named)

    def _environment(self, claim: Claim) -> Mapping[str, str]:
        return {
            "PURL_URL": self._settings.public_url or "",
            "PURL_ATTEMPT": claim.attempt_id,
            "PURL_TOKEN": claim.token,
            **self._settings.of_workers,
        }
