"""At every commit, fsync, rename and call to S3 the process fails, before it and after it: no promise is broken.

One life of a service goes through all of them; at each point, once, the process is killed or the primitive fails.
Whoever asked asks again, and the next process goes on.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select, update

from purlkit.results import CheckReport, Finish, Layer, Outcome
from services import keys
from services.artifacts import LocalStore, Store
from services.database import Database, clock
from services.errors import StoreUnavailable
from services.tables import Attempt, Job, StoredBlob
from tests.chaos import alone
from tests.chaos.calls import LEAST, Client, Worker, file_of, until_done
from tests.chaos.failpoints import ACTIONS, SIDES, Failpoints, inventory
from tests.chaos.history import History, read, violations
from tests.chaos.house import House, listen, wait_for_port
from tests.chaos.scale import is_long, tell
from tests.integration.stores import put
from tests.integration.test_api_weights import a_file
from tests.s3 import S3Server, s3_server
from tests.waiting import wait_until

SETTINGS = {
    "PURL_LEASE_SECONDS": "300",
    "PURL_HEARTBEAT_SECONDS": "0.5",
    "PURL_POLL_SECONDS": "0.02",
    "PURL_MAX_RUNNING": "3",
    "PURL_DRAIN_SECONDS": "10",
    # The cleaning comes when all else is over, in a process with other settings.
    "PURL_CLEAN_SECONDS": "3600",
}
# A process that fails at every point of the cleaning starts dozens of times meanwhile.
CLEANED_SECONDS = 300.0
# Who has claimed an attempt and not started it in so long has died in between.
START_MS = 1000
CLEANING = {
    "PURL_CLEAN_SECONDS": "0.1",
    "PURL_CLEAN_GRACE_SECONDS": "0.001",
    "PURL_KEEP_DAYS": "1e-9",
    "PURL_KEEP_WEIGHTS_DAYS": "1e-9",
}
RUNNABLE = CheckReport(
    runnable=True,
    layers=(Layer(name="conv", kind="Conv2d", shape=(16, 1, 3, 3), weights=144),),
    prunable_weights=144,
    sparsity_range=(0.0, 0.99),
    steps=60,
    memory_bytes=1_000_000,
)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@dataclass
class Life:
    """A service that may die at any moment, and all who have to do with it."""

    folder: Path
    url: str
    house: House
    client: Client
    history: History
    db: Database
    points: Failpoints
    seconds: dict[str, int] = field(default_factory=dict)

    @property
    def launches(self) -> Path:
        return self.folder / "launches"

    def newest(self, job_id: str, played: int) -> Worker | None:
        """So many deaths would make the job wait ever longer, for leases and in between: that has tests of its own."""
        found = alone.launched(self.launches, job_id)
        with self.db.write() as session:
            waits = Job.id == job_id, (Job.not_before > 0) | (Job.fruitless > 0)
            session.execute(update(Job).where(*waits).values(not_before=0, fruitless=0))
            of_this = Attempt.job_id == job_id, Attempt.number > (found[0] if found else 0)
            never_started = *of_this, Attempt.created_at < clock(session) - START_MS, Attempt.lease_until > 0
            session.execute(update(Attempt).where(*never_started).values(lease_until=0))
        return Worker(self.url, self.history, found[1], found[0]) if found and found[0] > played else None

    def dies(self, worker: Worker) -> None:
        (self.launches / f"{worker.job}-a{worker.number}.dead").touch()

    def run(self) -> None:
        """Every kind of end, and every call of the API that commits something."""
        for part in (
            self._ends_well,
            self._dies,
            self._is_paused,
            self._drains,
            self._is_deleted,
            self._sweep,
            self._dry_run,
        ):
            began = time.monotonic()
            part()
            self.seconds[part.__name__] = round(time.monotonic() - began)

    def _plays_to_the_end(self, worker: Worker) -> None:
        worker.beat()
        worker.say(3)
        worker.log(b"a line\n")
        worker.save()
        worker.say(2)
        worker.succeed()
        self.dies(worker)

    def _ends(self, job_id: str) -> None:
        until_done(partial(self.newest, job_id), self._plays_to_the_end)
        self.client.wait_for(job_id, "succeeded")

    def _ends_well(self) -> None:
        dense = a_file()
        headers = {"Content-Type": "application/octet-stream"}
        uploaded = self.client.call("POST", "/weights", content=dense, headers=headers)[0]
        assert uploaded.status_code in (200, 201), uploaded.text
        weights = {"name": "digits-resnet", "weights": {"sha256": uploaded.json()["sha256"]}}
        for number in range(2):  # the first attempts can't be started at all
            (self.launches / f"refuse-{number}").touch()
        job_id = self.client.submit("ends well", model=weights)
        self._ends(job_id)
        again = self.client.retry(job_id, "again")
        assert self.client.move(again, "cancel") == 202
        self.client.wait_for(again, "cancelled")

    def _dies(self) -> None:
        job_id = self.client.submit("dies")

        def play(worker: Worker) -> None:
            worker.beat()
            worker.save()
            self.dies(worker)

        until_done(partial(self.newest, job_id), play)
        self._ends(job_id)

    def _is_paused(self) -> None:
        job_id = self.client.submit("is paused")
        self._stops(job_id, "pause", Outcome.PAUSED)
        self.client.wait_for(job_id, "paused")
        assert self.client.move(job_id, "resume") == 202
        self._ends(job_id)

    def _stops(self, job_id: str, command: str, outcome: Outcome) -> None:
        def play(worker: Worker) -> None:
            worker.beat()
            self.client.move(job_id, command)
            while worker.beat() != command:
                pass
            worker.finish(Finish(outcome=outcome))
            if command == "pause":
                self.dies(worker)

        until_done(partial(self.newest, job_id), play)

    def _drains(self) -> None:
        """SIGTERM, again and again until one drain has got to its end."""
        job_id = self.client.submit("drains")

        def play(worker: Worker) -> None:
            before = -1
            while worker.beat() != "drain":
                if self.house.deaths() > before:
                    before = self.house.deaths()
                    self.house.send("service", signal.SIGTERM)
            worker.finish(Finish(outcome=Outcome.DRAINED))
            self.dies(worker)
            wait_until("the service has gone and come back", lambda: self.house.deaths() > before)

        until_done(partial(self.newest, job_id), play)
        self._ends(job_id)

    def _is_deleted(self) -> None:
        """While its processes are still there: again and again, where a busy machine came too late for that."""
        for number in range(5):
            job_id = self.client.submit(f"is deleted {number}")
            self._stops(job_id, "cancel", Outcome.CANCELLED)
            self.client.wait_for(job_id, "cancelled")
            self.client.delete(job_id)
            wait_until("its processes are ended", partial(self._were_ended, job_id))
            if not any("clear_up" in point for point in self.points.waiting()):
                return

    def _were_ended(self, job_id: str) -> bool:
        return any(self.launches.glob(f"{job_id}-a*.dead"))

    def _sweep(self) -> None:
        body = {"base": LEAST, "grid": {"seed": [0, 1]}}
        made, sent = self.client.call("POST", "/sweeps", json=body, headers={"Idempotency-Key": "sweep"})
        assert made.status_code == 202, made.text
        jobs = [row["job"] for row in made.json()["table"]]
        for job_id in jobs:
            self.client.note("submit", sent, job=job_id, key=f"sweep {job_id}")
        stopped, sent = self.client.call("POST", f"/sweeps/{made.json()['id']}/cancel")
        assert stopped.status_code == 202, stopped.text
        for job_id in jobs:
            self.client.note("cancel", sent, job=job_id)
            self.client.wait_for(job_id, "cancelled")

    def _dry_run(self) -> None:
        answered = threading.Event()

        def check() -> None:
            reported: set[str] = set()
            while not answered.is_set():
                for path in self.launches.glob("chk*.json"):
                    job = path.stem
                    if job in reported:
                        continue
                    reported.add(job)
                    env = json.loads(path.read_text())
                    headers = {"Authorization": f"Bearer {env['PURL_TOKEN']}"}
                    body = RUNNABLE.model_dump(mode="json")
                    with closing(Client(self.url, self.history)) as checker:
                        checker.call("POST", f"/checks/{env['PURL_CHECK']}/report", json=body, headers=headers)
                answered.wait(0.02)

        checker = threading.Thread(target=check)
        checker.start()
        try:
            answer, _ = self.client.call("POST", "/jobs", params={"dry_run": "true"}, json={**LEAST, "seed": 99})
            assert answer.json()["runnable"], answer.text
        finally:
            answered.set()
            checker.join()


@contextmanager
def a_life(folder: Path, environ: dict[str, str], points: Failpoints, store: Store) -> Iterator[Life]:
    folder.joinpath("launches").mkdir(parents=True)
    listening, url = listen()
    house = House(folder / "log")
    environ = {**environ, "PURL_PUBLIC_URL": url}
    history = History(file_of(folder, "test"))
    db = Database.open(environ["PURL_DATABASE_URL"])
    with db.write() as session:
        keys.adopt(session, key := keys.new_key(), name="whoever asks")
    with closing(listening), closing(db), closing(house), closing(Client(url, history, key)) as client:
        house.start("service", alone.serve, environ, listening, folder / "points", folder / "launches")
        wait_for_port(url)
        yield Life(folder, url, house, client, history, db, points)
        # What is over is cleaned up, by processes that fail as well.
        jobs = client.all_jobs()
        finals = {job_id: client.final(job_id) for job_id in jobs}
        assert violations(read(folder / "history"), finals) == [], (folder / "log").read_text()[-5000:]
        house.restart("service", {**environ, **CLEANING}, listening, folder / "points", folder / "launches")
        wait_until("all jobs have been cleaned up", lambda: client.all_jobs() == [], seconds=CLEANED_SECONDS)
        # Bytes that no row knows, as a backup may bring them.
        wait_until("a file is there that nobody knows", partial(left_behind, store, b"nobody's"))
        wait_until("nothing is left", lambda: cleaned(points) and stored(store, db) == [], seconds=CLEANED_SECONDS)


def left_behind(store: Store, data: bytes) -> bool:
    """Not if the cleaning, which has no patience here, has taken the file before it had its name."""
    with suppress(StoreUnavailable):
        put(store, data)
        return True
    return False


def cleaned(points: Failpoints) -> bool:
    """Whether the cleaning has come to all its points. The others have been passed by now, or never will be."""
    its_own = "cleaning", "remove_unnamed", "S3Store.remove", "S3Store.listing"
    return not any(name in point for point in points.waiting() for name in its_own)


def stored(store: Store, db: Database) -> list[str]:
    """Names in the store and rows that name any."""
    with db.read() as session:
        rows = list(session.scalars(select(StoredBlob.sha256)))
    return rows + [name for name, _ in store.listing()]


COMBINATIONS = [("sqlite", "disk"), ("postgresql", "s3")]
LONG = [("sqlite", "s3"), ("postgresql", "disk")]


@pytest.mark.parametrize("action", ACTIONS if is_long() else ACTIONS[:1])
@pytest.mark.parametrize(("database", "store"), COMBINATIONS + LONG if is_long() else COMBINATIONS)
def test_a_failure_at_any_point_breaks_no_promise(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, store: str, action: str
) -> None:
    database_url = request.getfixturevalue(f"{database}_url")
    environ = {**SETTINGS, "PURL_DATA_DIR": str(tmp_path), "PURL_DATABASE_URL": database_url}
    shelf: Store = LocalStore(tmp_path / "artifacts")
    if store == "s3":
        server: S3Server = request.getfixturevalue("s3")
        bucket = server.make_bucket(f"points-{database}-{action.lower()}")
        environ |= {**server.environ(), "PURL_ARTIFACTS": f"s3://{bucket}/some/where"}
        shelf = server.store(bucket, tmp_path / "spool", prefix="some/where")
    points = Failpoints(tmp_path / "points")
    all_of_them = inventory(s3=store == "s3")
    if store == "s3" and not is_long():
        all_of_them -= inventory(s3=False)  # the others are passed on SQLite
    for side in SIDES:
        points.set(sorted(all_of_them), side, action)
    began = time.monotonic()

    with a_life(tmp_path, environ, points, shelf) as life:
        life.run()

    seconds = time.monotonic() - began
    tell(f"{database}, {store}, {action}: {2 * len(all_of_them)} points, {seconds:.0f} s, missed: {points.waiting()}")
    tell(f"seconds of its parts: {life.seconds}")
    assert points.waiting() == []
    # And none was passed that the sources are not known to have.
    assert points.reached() - inventory(s3=store == "s3") == set()
