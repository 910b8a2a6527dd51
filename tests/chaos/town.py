"""A whole service of real processes: APIs on one socket, dispatchers, workers that pretend to search."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from purlkit.processes import end_session
from services.database import Database
from services.states import LIVE
from services.tables import Attempt
from services.testing import a_blob, a_result
from tests import postgres
from tests.chaos import house
from tests.chaos.calls import Client, file_of
from tests.chaos.history import Final, History, Op, read, violations
from tests.chaos.house import House, listen, wait_for_port
from tests.waiting import wait_until

WORKER = "tests.chaos.worker"
LEASE_SECONDS = 15.0


@dataclass
class Town:
    folder: Path
    url: str
    house: House
    client: Client
    db: Database
    server: postgres.Server | None  # PostgreSQL, of this town alone
    names: list[str] = field(default_factory=list)  # of the processes of the service

    @property
    def datasets(self) -> Path:
        return self.folder / "datasets"

    def handles(self) -> list[dict[str, Any]]:
        """Of attempts that live, as far as the database can be asked at this moment."""
        try:
            with self.db.read() as session:
                live = select(Attempt.handle).where(Attempt.state.in_(LIVE))
                return [handle for handle in session.scalars(live) if handle]
        except DBAPIError:
            return []

    def live(self) -> list[tuple[int, str]]:
        """Processes of attempts, and their jobs."""
        try:
            with self.db.read() as session:
                found = session.execute(select(Attempt.handle, Attempt.job_id).where(Attempt.state.in_(LIVE)))
                return [(handle["pid"], job_id) for handle, job_id in found if handle]
        except DBAPIError:
            return []

    def ops(self) -> list[Op]:
        return sorted([*read(self.folder / "history"), *read(self.datasets / "history")], key=lambda op: op.ended)

    def violations(self) -> list[str]:
        finals: dict[str, Final] = {job_id: self.client.final(job_id) for job_id in self.client.all_jobs()}
        return violations(self.ops(), finals)

    def log_tail(self) -> str:
        return (self.folder / "log").read_text()[-4000:]


@contextmanager
def a_town(
    folder: Path,
    database_url: str,
    *,
    server: postgres.Server | None = None,
    worker: str = WORKER,
    **environ: str,
) -> Iterator[Town]:
    """On PostgreSQL two APIs and two dispatchers, on SQLite one of each."""
    (folder / "datasets").mkdir(parents=True)
    (folder / "datasets" / "result.json").write_text(a_result(a_blob(b"?")).model_dump_json())
    listening, url = listen()
    settings = {
        "PURL_DATA_DIR": str(folder),
        "PURL_DATABASE_URL": database_url,
        "PURL_PUBLIC_URL": url,
        "PURL_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
        "PURL_HEARTBEAT_SECONDS": "1",
        "PURL_POLL_SECONDS": "0.1",
        "PURL_MAX_RUNNING": "8",
        **environ,
    }
    db = Database.open(database_url)
    client = Client(url, History(file_of(folder, "client")))
    kept = House(folder / "log")
    with closing(listening), closing(db), closing(client):
        try:
            town = Town(folder, url, kept, client, db, server)
            for number in range(1 if database_url.startswith("sqlite") else 2):
                kept.start(f"api {number}", house.api, settings, listening)
                kept.start(f"dispatcher {number}", house.dispatcher, settings, worker)
            town.names = list(kept.kept)
            wait_for_port(url)
            yield town
        finally:
            kept.close()
            for handle in town.handles():
                end_session(handle["pid"], grace_seconds=0)


@dataclass(frozen=True, order=True)
class Recovery:
    """How long it took until something was acknowledged again that needs what was killed."""

    seconds: float
    kind: str
    at: float
    job: str = ""  # of a worker


@dataclass
class Killing:
    """Kills one thing of the town after another, and notes when: what the kind is, and of workers whose."""

    town: Town
    kills: int
    seed: int = 0
    done: list[tuple[str, str, float]] = field(default_factory=list)
    _dead: set[int] = field(default_factory=set)  # workers: one that nobody has missed yet can't be killed again

    @property
    def kinds(self) -> list[str]:
        return ["api", "dispatcher", "worker"] + (["database"] if self.town.server else [])

    def run(self) -> None:
        chance = random.Random(self.seed)
        # On a busy machine dispatchers may be killed faster than they start any worker.
        wait_until("a worker is there, and killed", lambda: self._kill("worker", chance) or self.done)
        while len(self.done) < self.kills:
            time.sleep(chance.uniform(0.05, 0.5))
            self._kill(chance.choice(self.kinds), chance)

    def _kill(self, kind: str, chance: random.Random) -> None:
        whose = ""
        if kind == "worker":
            live = [(pid, job_id) for pid, job_id in self.town.live() if pid not in self._dead]
            if not live:
                return
            pid, whose = chance.choice(live)
            self._dead.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        elif kind == "database":
            assert self.town.server is not None
            self.town.server.kill()
            self.done.append((kind, whose, time.monotonic()))
            self.town.server.start()
            return
        elif not self.town.house.kill(chance.choice([name for name in self.town.names if name.startswith(kind)])):
            return
        self.done.append((kind, whose, time.monotonic()))

    def recoveries(self) -> list[Recovery]:
        """From each kill on, the slowest last. A job that is killed again meanwhile has one recovery, from the last."""
        ops = self.town.ops()
        found: dict[tuple[str, int], Recovery] = {}
        for number, (kind, whose, at) in enumerate(self.done):
            after = [op for op in ops if op.sent > at]
            of_this = kind, number
            if kind == "worker":
                # Its job has another attempt, or its last word had arrived before.
                before = max((op.attempt for op in ops if op.job == whose and op.ended <= at), default=0)
                after = [op for op in after if op.job == whose and op.attempt > before]
                of_this = whose, before
            elif kind == "dispatcher":
                after = [op for op in after if op.what == "brief"]
            if after:
                found[of_this] = Recovery(min(op.ended for op in after) - at, kind, at, whose)
        return sorted(found.values())


def background(run: Any) -> threading.Thread:
    thread = threading.Thread(target=run)
    thread.start()
    return thread
