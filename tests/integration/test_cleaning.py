"""The cleaner, on both stores: what nobody names goes, what anybody names stays, whoever else is at work.

Each test meets each database and each store. That these know nothing of each other `test_every_combination` shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from purlkit.results import Finish, Outcome
from services import artifacts, attempts, checks, jobs
from services.artifacts.blobs import NAMING
from services.cleaning import KEEP_CHECKS_MS
from services.errors import NotFound
from services.ids import new_id
from services.states import AttemptState
from services.tables import Attempt, Base, Job
from services.testing import FakeLauncher, a_spec
from tests.bench import Bench
from tests.integration.stores import Shelf, sha256_of
from tests.integration.yard import LONG_AGO, Yard
from tests.scene import Scene, handle_of
from tests.waiting import wait_until


@pytest.fixture(params=[("sqlite", "disk"), ("postgresql", "s3")], ids="-".join)
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    database, store = request.param
    shelf: Shelf = request.getfixturevalue(f"{store}_shelf")
    with closing(Bench(tmp_path, request.getfixturevalue(f"{database}_url"))) as bench:
        yield Yard(bench, shelf)


def test_of_saved_work_the_latest_stays_and_what_it_replaced_goes(yard: Yard) -> None:
    worker = yard.bench.running()
    for number in range(3):
        yard.save(worker, "search", f"after {number}".encode())
    yard.pass_time()

    cleaned = yard.clean()

    assert cleaned.blobs == 2
    assert yard.shelf.names() == [sha256_of(b"after 2")]


def test_what_was_sent_just_now_is_left_alone(yard: Yard) -> None:
    yard.keep(b"on its way to a row")

    assert yard.clean().blobs == 0
    assert yard.holds(b"on its way to a row")


def test_bytes_that_somebody_else_names_as_well_stay(yard: Yard) -> None:
    one, other = yard.bench.running(), yard.bench.running()
    yard.save(one, "dense", b"the same network")
    yard.save(other, "dense", b"the same network")
    one.fail()
    yard.pass_time()

    yard.clean()

    assert yard.holds(b"the same network")


def test_the_saved_work_of_an_ended_job_is_freed_and_of_a_waiting_one_is_not(yard: Yard) -> None:
    ended, waiting = yard.bench.running(), yard.bench.running()
    yard.save(ended, "search", b"of the ended")
    yard.save(waiting, "search", b"of the waiting")
    ended.fail()
    waiting.leave(Outcome.DRAINED)
    yard.pass_time()

    yard.clean()

    assert (yard.holds(b"of the ended"), yard.holds(b"of the waiting")) == (False, True)


def test_what_an_attempt_never_published_goes_after_its_end_and_the_published_stays(yard: Yard) -> None:
    lost, done = yard.bench.running(), yard.bench.running()
    yard.keep(b"half a result")
    lost.stage("pruned.safetensors", b"half a result")
    yard.keep(b"the pruned network")
    done.succeed(b"the pruned network")
    yard.bench.rescue(lost)
    yard.pass_time()

    assert yard.clean().staged == 1

    assert (yard.holds(b"half a result"), yard.holds(b"the pruned network")) == (False, True)


def test_bytes_that_never_got_a_row_are_found_in_the_store(yard: Yard) -> None:
    """Of a process that was killed between the store and the database."""
    with yard.shelf.store.begin() as writer:
        writer.write(b"an orphan")
        yard.shelf.age(writer.commit().sha256, 2 * 86_400)
    yard.clean()
    yard.pass_time()

    yard.clean()

    assert not yard.holds(b"an orphan")


def test_a_file_that_is_not_ours_is_never_touched(yard: Yard) -> None:
    for name in ("README", "zz/notes.txt"):
        yard.shelf.put_beside(name)

    yard.clean(clean_grace_seconds=0.0)

    assert yard.shelf.names() == ["README", "notes.txt"]


def test_old_jobs_go_if_the_settings_say_so_and_only_ended_ones(yard: Yard) -> None:
    old, paused = yard.bench.running(), yard.bench.submit()
    yard.keep(b"the pruned network")
    old.succeed(b"the pruned network")
    yard.bench.pause(paused)
    yard.pass_time()

    assert yard.clean().jobs == 0
    assert yard.clean(keep_days=30.0).jobs == 0
    assert yard.clean(keep_days=5.0).jobs == 1

    with yard.bench.db.read() as session:
        assert list(session.scalars(select(Job.id))) == [paused]
    assert not yard.holds(b"the pruned network")


def test_answers_to_old_dry_runs_go(yard: Yard) -> None:
    with yard.bench.db.write() as session:
        checks.create(session, a_spec())
    assert KEEP_CHECKS_MS < LONG_AGO
    yard.pass_time()

    assert yard.clean().checks == 1


def test_logs_go_with_what_wrote_them_and_others_stay(yard: Yard) -> None:
    logs = yard.bench.settings.data_dir / "logs"
    logs.mkdir()
    live, ended, unseen = (yard.bench.running() for _ in range(3))
    ended.fail()
    unseen.fail()
    with yard.bench.db.write() as session:
        attempts.launched(session, unseen.claim.attempt_id, {"pid": 1})
    names = [live.claim.attempt_id, ended.claim.attempt_id, unseen.claim.attempt_id, new_id("att"), new_id("chk")]
    for name in [*names, "operator"]:
        (logs / f"{name}.log").write_text("said")

    assert yard.clean().logs == 0, "they are fresh"
    assert yard.clean(clean_grace_seconds=0.0).logs == 3

    left = {path.stem for path in logs.iterdir()}
    assert left == {live.claim.attempt_id, unseen.claim.attempt_id, "operator"}


def test_every_column_that_names_stored_bytes_is_known_to_the_cleaner() -> None:
    columns = {str(table.c.sha256) for table in Base.metadata.tables.values() if "sha256" in table.c}

    assert columns - {"blobs.sha256"} == {str(column.property.columns[0]) for column in NAMING}


class TestDeletedJobs:
    def test_rows_and_bytes_go_but_not_what_another_job_names(self, yard: Yard) -> None:
        one, other = yard.bench.running(), yard.bench.running()
        for worker in (one, other):
            yard.save(worker, "dense", b"shared")
        yard.save(one, "search", b"its own")
        yard.keep(b"the pruned network")
        one.succeed(b"the pruned network")

        with yard.bench.db.write() as session:
            named = jobs.delete(session, one.claim.job_id)
        artifacts.remove_unnamed(yard.bench.db, yard.shelf.store, named)

        assert yard.shelf.names() == [sha256_of(b"shared")]
        with yard.bench.db.read() as session:
            assert session.get(Job, one.claim.job_id) is None
            assert session.get(Attempt, one.claim.attempt_id) is None

    def test_a_job_that_has_not_ended_stays(self, yard: Yard) -> None:
        worker = yard.bench.running()

        with pytest.raises(Exception, match="cancel it first"), yard.bench.db.write() as session:
            jobs.delete(session, worker.claim.job_id)

        assert worker.attempt.state is AttemptState.RUNNING


def test_the_dispatcher_cleans_now_and_then(bench: Bench, tmp_path: Path) -> None:
    scene = Scene(bench, FakeLauncher(), PURL_CLEAN_SECONDS="0.01", PURL_CLEAN_GRACE_SECONDS="0.01")
    with bench.store.begin() as writer:
        writer.write(b"nobody's")
        sha256 = artifacts.keep(bench.db, writer).sha256
    path = tmp_path / "artifacts" / "blobs" / sha256[:2] / sha256
    assert path.exists()

    scene.tick_until("it is gone", lambda: not path.exists())
    # Its thread has a connection to a database that is about to go.
    wait_until("the clean is over", lambda: "clean" not in {thread.name for thread in threading.enumerate()})


def test_the_dispatcher_ends_the_processes_of_a_deleted_job(bench: Bench) -> None:
    scene = Scene(bench, FakeLauncher())
    worker = scene.start()
    handle = handle_of(worker)
    worker.finish(Finish(outcome=Outcome.DRAINED))
    bench.cancel(worker.claim.job_id)
    with bench.db.write() as session:
        jobs.delete(session, worker.claim.job_id)

    scene.dispatcher.tick()

    assert scene.launcher.ended == [handle]
    with bench.db.read() as session:
        assert attempts.leftovers(session) == []


def test_an_operator_cleans_by_hand(bench: Bench) -> None:
    worker = bench.running()
    with bench.store.begin() as writer:
        writer.write(b"nobody's")
        sha256 = artifacts.keep(bench.db, writer).sha256
    environ = {**bench.environ, "PURL_CLEAN_GRACE_SECONDS": "0.001"}

    said = subprocess.run(
        [sys.executable, "-m", "services", "clean"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert said == "cleaned: blobs 1\n"
    with pytest.raises(NotFound):
        bench.store.open(sha256)
    assert worker.beat() == "continue"
