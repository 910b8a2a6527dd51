"""A service without processes: a real database in a folder, and the few sentences that most tests begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from services import attempts, events, jobs, outlook, scheduling
from services.artifacts import LocalStore, Store
from services.attempts.endings import Cause
from services.database import Database
from services.launch import Capacity
from services.moves import live_attempt
from services.outlook import Outlook
from services.settings import Settings
from services.states import JobState
from services.tables import Attempt, DispatcherRow, Event, Job
from services.testing import FakeWorker, a_spec, settings_in


class Bench:
    def __init__(self, folder: Path, database_url: str) -> None:
        # What processes must be told to share this state.
        self.environ = {"PURL_DATA_DIR": str(folder), "PURL_DATABASE_URL": database_url}
        self.settings: Settings = settings_in(folder, PURL_DATABASE_URL=database_url, PURL_MAX_RUNNING="100")
        self.db = Database.open(database_url)
        self.store: Store = LocalStore(folder / "artifacts")

    def announce(self, *, found: Capacity | None = None, **environ: str) -> None:
        """As if a dispatcher were there, with these settings, in a place that was found to have so much."""
        settings = Settings.from_environ({**self.environ, **environ})
        with self.db.write() as session:
            scheduling.announce(session, settings, "dsp_1", "here", found)

    def dispatchers(self) -> list[DispatcherRow]:
        with self.db.read() as session:
            return list(session.scalars(select(DispatcherRow)))

    def submit(self, **changes: Any) -> str:
        with self.db.write() as session:
            return jobs.submit(session, a_spec(**changes)).job.id

    def claim(self) -> FakeWorker:
        with self.db.write() as session:
            claim = attempts.claim(session, self.settings)
        assert claim is not None, "nothing is due"
        return FakeWorker(self.db, claim)

    def running(self, **changes: Any) -> FakeWorker:
        """A new job whose first attempt has reported."""
        self.submit(**changes)
        worker = self.claim()
        worker.beat()
        return worker

    def job(self, job_id: str) -> Job:
        with self.db.read() as session:
            return jobs.get(session, job_id)

    def state(self, worker: FakeWorker) -> JobState:
        return self.job(worker.claim.job_id).state

    def cancel(self, job_id: str) -> Job:
        with self.db.write() as session:
            return jobs.request_cancel(session, job_id)

    def pause(self, job_id: str) -> Job:
        with self.db.write() as session:
            return jobs.request_pause(session, job_id)

    def resume(self, job_id: str) -> Job:
        with self.db.write() as session:
            return jobs.resume(session, job_id)

    def rescue(self, worker: FakeWorker, *, cause: Cause = "lost", reason: str = "it was killed") -> Job:
        with self.db.write() as session:
            return attempts.rescue(session, worker.attempt, reason=reason, cause=cause)

    def next_try(self, job_id: str) -> FakeWorker:
        """The job's next attempt, without waiting for the back-off to pass."""
        with self.db.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(not_before=0))
        return self.claim()

    def age(self, worker: FakeWorker, seconds: float) -> None:
        """As if all that the attempt has on its clock had happened so much earlier."""
        ms = round(seconds * 1000)
        with self.db.write() as session:
            session.execute(
                update(Attempt)
                .where(Attempt.id == worker.claim.attempt_id)
                .values(
                    lease_until=Attempt.lease_until - ms,
                    counter_moved_at=Attempt.counter_moved_at - ms,
                    started_at=Attempt.started_at - ms,
                )
            )

    def overdue(self, query: Callable[..., list[Attempt]]) -> list[str]:
        """Ids of the attempts that the dispatcher's query finds."""
        with self.db.read() as session:
            return [attempt.id for attempt in query(session)]

    def events(self, job_id: str) -> list[Event]:
        with self.db.read() as session:
            return events.page(session, job_id, limit=1000).items

    def outlook(self, job_id: str) -> Outlook:
        with self.db.read() as session:
            attempt = live_attempt(session, job_id)
            return outlook.of(session, [jobs.get(session, job_id)], {job_id: attempt} if attempt else {})[job_id]

    def why(self, job_id: str) -> str | None:
        return self.outlook(job_id).reason

    def place(self, job_id: str) -> int | None:
        return self.outlook(job_id).position

    def states(self, job_id: str) -> list[str]:
        """Every state that the job was ever in, by its events."""
        return [event.data["state"] for event in self.events(job_id) if event.type == "state"]

    def close(self) -> None:
        self.db.close()
