"""The cleaner, on both stores: what nobody names goes, what anybody names stays, whoever else is at work."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from purlkit.results import Finish, Outcome
from services import artifacts, attempts, checks, jobs
from services.artifacts import Blob, blobs
from services.artifacts.blobs import NAMING
from services.cleaning import DAY_MS, KEEP_CHECKS_MS, Cleaned, clean
from services.errors import NotFound, SweptMeanwhile
from services.ids import new_id
from services.states import AttemptState
from services.tables import Attempt, Base, Check, Job, SavedBlob, StoredBlob
from services.testing import FakeLauncher, FakeWorker, a_spec
from tests.bench import Bench
from tests.integration.stores import Shelf, sha256_of
from tests.scene import Scene, handle_of

LONG_AGO = 10 * DAY_MS


class Yard:
    """A service whose workers really store what they send."""

    def __init__(self, bench: Bench, shelf: Shelf) -> None:
        self.bench = bench
        self.shelf = shelf

    def keep(self, data: bytes) -> Blob:
        with self.shelf.store.begin() as writer:
            writer.write(data)
            return artifacts.keep(self.bench.db, writer)

    def save(self, worker: FakeWorker, name: str, data: bytes) -> None:
        self.keep(data)
        worker.save(name, data)

    def pass_time(self) -> None:
        """As if everything that is on record had happened ten days ago."""
        with self.bench.db.write() as session:
            session.execute(update(StoredBlob).values(touched_at=StoredBlob.touched_at - LONG_AGO))
            session.execute(update(Attempt).values(ended_at=Attempt.ended_at - LONG_AGO))
            session.execute(update(Job).values(finished_at=Job.finished_at - LONG_AGO))
            session.execute(update(Check).values(expires_at=Check.expires_at - LONG_AGO))

    def clean(self, **settings: float) -> Cleaned:
        return clean(self.bench.db, self.shelf.store, replace(self.bench.settings, **settings))

    def holds(self, data: bytes) -> bool:
        return sha256_of(data) in self.shelf.names()


@pytest.fixture
def yard(bench: Bench, shelf: Shelf) -> Yard:
    return Yard(bench, shelf)


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


class TestAMeeting:
    """Bytes that have lain unnamed for long are sent again, just as the cleaner comes for them."""

    DATA = b"the same bytes again"

    @pytest.fixture
    def old(self, yard: Yard) -> str:
        sha256 = yard.keep(self.DATA).sha256
        yard.pass_time()
        return sha256

    @pytest.mark.usefixtures("old")
    def test_sent_again_before_the_cleaner_looks_they_are_fresh(self, yard: Yard) -> None:
        worker = yard.bench.running()
        yard.keep(self.DATA)

        assert yard.clean().blobs == 0

        worker.save("search", self.DATA)
        assert yard.holds(self.DATA)

    def test_named_before_the_cleaner_gets_there_they_stay(self, yard: Yard, old: str) -> None:
        with yard.bench.db.read() as session:
            doomed = blobs.unnamed(session, idle_ms=0)
        worker = yard.bench.running()
        yard.save(worker, "search", self.DATA)

        artifacts.remove_unnamed(yard.bench.db, yard.shelf.store, doomed)

        assert doomed == [old]
        assert yard.holds(self.DATA)

    def test_removed_before_they_are_named_they_are_asked_for_again(self, yard: Yard, old: str) -> None:
        worker = yard.bench.running()
        blob = yard.keep(self.DATA)
        artifacts.remove_unnamed(yard.bench.db, yard.shelf.store, [old])

        with pytest.raises(SweptMeanwhile), yard.bench.db.write() as session:
            attempts.save_work(session, worker.attempt, "search", blob)

        yard.save(worker, "search", self.DATA)
        assert yard.holds(self.DATA)

    def test_whoever_wins_no_row_ever_names_missing_bytes(self, yard: Yard) -> None:
        """Both for real and at once, on few contents and with hardly any grace, so that they meet all the time."""
        contents = [f"content {number}".encode() for number in range(3)]
        done = threading.Event()

        def clean_on() -> None:
            while not done.is_set():
                artifacts.remove_unnamed(yard.bench.db, yard.shelf.store, map(sha256_of, contents), idle_ms=100)

        cleaners = [threading.Thread(target=clean_on) for _ in range(2)]
        worker = yard.bench.running()
        for cleaner in cleaners:
            cleaner.start()
        refused = 0
        try:
            for turn in range(15):
                data = contents[turn % 3]
                blob = yard.keep(data)
                try:
                    with yard.bench.db.write() as session:
                        attempts.save_work(session, worker.attempt, "search", blob)
                except SweptMeanwhile:
                    refused += 1
                    continue
                assert yard.holds(data), "a row names it"
        finally:
            done.set()
            for cleaner in cleaners:
                cleaner.join()

        with yard.bench.db.read() as session:
            for named in session.scalars(select(SavedBlob.sha256)):
                assert named in yard.shelf.names()
        assert refused < 15


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
