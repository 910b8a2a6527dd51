"""A dispatcher on a real database, whose attempts are played by the test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from purlkit.results import LOG
from services import artifacts, scheduling
from services.attempts import Claim
from services.dispatcher import Dispatcher
from services.launch import Handle
from services.settings import Settings
from services.stopping import Stop
from services.tables import Attempt
from services.testing import FakeLauncher, FakeWorker
from tests.bench import Bench
from tests.waiting import wait_until


class Scene:
    def __init__(self, bench: Bench, launcher: FakeLauncher, *, sole: bool = True, **environ: str) -> None:
        self.bench = bench
        self.launcher = launcher
        settings = Settings.from_environ({**bench.environ, "PURL_PUBLIC_URL": "http://service", **environ})
        self.dispatcher = Dispatcher(bench.db, settings, launcher, bench.store, sole=sole)

    def start(self) -> FakeWorker:
        """A new job, and the attempt that the dispatcher starts for it."""
        self.bench.submit()
        self.dispatcher.tick()
        return self.latest()

    def latest(self) -> FakeWorker:
        env = self.launcher.launches[-1].env
        with self.bench.db.read() as session:
            attempt = session.get_one(Attempt, env["PURL_ATTEMPT"])
        claim = Claim(attempt_id=attempt.id, job_id=attempt.job_id, number=attempt.number, token=env["PURL_TOKEN"])
        return FakeWorker(self.bench.db, claim)

    def drain(self) -> bool:
        """What SIGTERM does; whether it left nothing behind."""
        with closing(Stop()) as stop:
            return self.dispatcher.drain(stop)

    def withdraw(self) -> None:
        """As if the dispatcher had gone, long ago."""
        with self.bench.db.write() as session:
            scheduling.withdraw(session, self.dispatcher.id)

    def tick_until(self, what: str, condition: Callable[[], object]) -> None:
        def looked() -> object:
            self.dispatcher.tick()
            return condition()

        wait_until(what, looked)

    def log_of(self, worker: FakeWorker) -> str:
        with self.bench.db.read() as session:
            artifact = artifacts.find(session, worker.claim.job_id, LOG)
        with self.bench.store.open(artifact.sha256) as file:
            return file.read().decode()


def handle_of(worker: FakeWorker) -> Handle:
    handle = worker.attempt.handle
    assert handle is not None
    return handle
