"""A stale attempt changes nothing: whatever it says, it is told so, and no row moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from sqlalchemy import select

from purlkit.results import CHECKPOINT, ErrorReport, Finish, Heartbeat, Outcome, Phase, WorkerEvent, WorkerEvents
from services import attempts
from services.database import upgrade
from services.errors import AttemptSuperseded
from services.tables import Attempt, Base
from services.testing import FakeWorker, a_blob, a_result, an_episode, settings_in
from tests import postgres
from tests.bench import Bench

BEAT = Heartbeat(phase=Phase.VERIFY, counter=99)
NOTE = WorkerEvent(type="note", data={"from": "the dead"})
WON = Finish(outcome=Outcome.SUCCEEDED, result=a_result(a_blob(b"stale")), artifacts=(CHECKPOINT,))
FAILED = Finish(outcome=Outcome.FAILED, error=ErrorReport(code="late", message="late"))

# Each as the API would do it: the token was checked while the attempt still lived, the write comes afterwards.
WRITES: dict[str, Callable[..., object]] = {
    "heartbeat": lambda s, a: attempts.heartbeat(s, a, BEAT),
    "events": lambda s, a: attempts.record_events(s, a, WorkerEvents(first_seq=1, events=(NOTE, an_episode(0)))),
    "known events": lambda s, a: attempts.record_events(s, a, WorkerEvents(first_seq=0, events=(NOTE,))),
    "saved work": lambda s, a: attempts.save_work(s, a, "search", a_blob(b"stale")),
    "artifact": lambda s, a: attempts.stage_artifact(s, a, "policy.json", a_blob(b"stale"), "application/json"),
    "log": lambda s, a: attempts.stage_artifact(s, a, "attempt.log", a_blob(b"stale"), "text/plain"),
    "success": lambda s, a: attempts.finish(s, a, WON),
    "failure": lambda s, a: attempts.finish(s, a, FAILED),
    "drained": lambda s, a: attempts.finish(s, a, Finish(outcome=Outcome.DRAINED)),
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One for all of them: what no write may change is as good for the next one."""
    folder = tmp_path_factory.mktemp("fencing")
    url = settings_in(folder).database_url
    if request.param == "postgresql":
        server: postgres.Databases = request.getfixturevalue("postgresql")
        url = server.create()
    else:
        upgrade(url)
    with closing(Bench(folder, url)) as bench:
        yield bench
    if request.param == "postgresql":
        server.drop(url)


def everything(bench: Bench) -> dict[str, list[tuple[object, ...]]]:
    with bench.db.read() as session:
        return {
            name: sorted((tuple(row) for row in session.execute(select(table))), key=str)
            for name, table in Base.metadata.tables.items()
        }


def a_superseded_attempt(bench: Bench) -> tuple[Attempt, FakeWorker]:
    """An attempt that was given up, as its worker still believes in it, and the worker that took its place."""
    stale = bench.running()
    stale.say(NOTE)
    stale.save("search", b"good")
    stale.stage(CHECKPOINT, b"stale")
    seen = stale.attempt
    bench.rescue(stale)
    successor = bench.claim()
    successor.beat()
    return seen, successor


@pytest.fixture(scope="module")
def superseded(world: Bench) -> tuple[Attempt, FakeWorker]:
    return a_superseded_attempt(world)


@pytest.fixture(scope="module")
def of_an_ended_job(world: Bench) -> Attempt:
    stale, successor = a_superseded_attempt(world)
    successor.succeed()
    return stale


@pytest.fixture(scope="module")
def cancelled(world: Bench) -> Attempt:
    job_id = world.submit()
    stale = world.claim().attempt
    world.cancel(job_id)
    return stale


def changes_nothing(bench: Bench, stale: Attempt, write: Callable[..., object]) -> None:
    before = everything(bench)

    with pytest.raises(AttemptSuperseded), bench.db.write() as session:
        write(session, stale)

    assert everything(bench) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_superseded_attempt_changes_nothing(
    world: Bench, superseded: tuple[Attempt, FakeWorker], write: Callable[..., object]
) -> None:
    stale, successor = superseded

    changes_nothing(world, stale, write)

    assert successor.beat() == "continue"


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_nor_does_one_whose_job_has_ended(world: Bench, of_an_ended_job: Attempt, write: Callable[..., object]) -> None:
    changes_nothing(world, of_an_ended_job, write)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_nor_does_one_that_was_cancelled_before_it_reported(
    world: Bench, cancelled: Attempt, write: Callable[..., object]
) -> None:
    changes_nothing(world, cancelled, write)


def test_the_token_counts_and_not_only_the_id(bench: Bench) -> None:
    worker = bench.running()
    forged = worker.attempt
    forged.token_sha256 = "0" * 64

    with pytest.raises(AttemptSuperseded), bench.db.write() as session:
        attempts.heartbeat(session, forged, BEAT)
