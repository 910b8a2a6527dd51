"""Uploaded weights: here as long as a job names them, and for a time after that, whoever comes just as they go."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import select

from purlkit.errors import MissingWeights
from services import artifacts, checks, jobs, weights
from services.tables import Job
from services.testing import a_spec
from tests.bench import Bench
from tests.integration.stores import LocalShelf, Shelf, sha256_of
from tests.integration.yard import LONG_AGO_DAYS, Yard

DATA = b"a dense network"
SHA256 = sha256_of(DATA)


def using(data: bytes = DATA) -> dict[str, Any]:
    """What a spec says that names these weights."""
    return {"model": {"name": "digits-resnet", "weights": {"sha256": sha256_of(data)}}}


@pytest.fixture
def yard(bench: Bench, shelf: Shelf) -> Yard:
    return Yard(bench, shelf)


def upload(yard: Yard, data: bytes = DATA) -> None:
    blob = yard.keep(data)
    with yard.bench.db.write() as session:
        weights.record(session, blob, tensors=1)


def known(bench: Bench) -> bool:
    with bench.db.read() as session:
        return weights.find(session, SHA256) is not None


def test_what_no_job_names_goes_with_its_bytes_when_its_time_is_over(yard: Yard) -> None:
    upload(yard)
    yard.bench.submit()
    yard.bench.submit(model={"name": "resnet18", "weights": "pretrained"})
    yard.pass_time()

    assert yard.clean(keep_weights_days=0.0).weights == 0, "the setting says to keep them"
    assert yard.clean(keep_weights_days=LONG_AGO_DAYS + 1).weights == 0, "it is too early"
    assert yard.clean(keep_weights_days=LONG_AGO_DAYS - 1).weights == 1

    assert not known(yard.bench)
    assert not yard.holds(DATA)


def test_what_a_job_names_stays_whatever_the_job_does(yard: Yard) -> None:
    """An ended one too: it may be retried."""
    files = {state: f"of the {state}".encode() for state in ("failed", "running", "paused", "queued")}
    for data in files.values():
        upload(yard, data)
    for state in ("failed", "running"):
        worker = yard.bench.running(**using(files[state]))
        if state == "failed":
            worker.fail()
    yard.bench.pause(yard.bench.submit(**using(files["paused"])))
    yard.bench.submit(**using(files["queued"]))
    yard.pass_time()

    assert yard.clean(keep_weights_days=1.0).weights == 0

    with yard.bench.db.read() as session:
        assert {job.state.value for job in session.scalars(select(Job))} == set(files)
    assert all(yard.holds(data) for data in files.values())


class TestTheirTime:
    """It begins anew whenever somebody has to do with them."""

    @pytest.fixture
    def yard(self, bench: Bench) -> Yard:
        """How long something stays is the database's affair: one store will do."""
        yard = Yard(bench, LocalShelf(bench.store))  # type: ignore[arg-type]
        upload(yard)
        yard.pass_time()
        return yard

    def test_with_the_same_file_sent_again(self, yard: Yard) -> None:
        upload(yard)

        assert yard.clean(keep_weights_days=1.0).weights == 0

    def test_with_a_dry_run(self, yard: Yard) -> None:
        with yard.bench.db.write() as session:
            checks.create(session, a_spec(**using()))

        assert yard.clean(keep_weights_days=1.0).weights == 0

    def test_with_the_end_of_the_last_job_that_named_them(self, yard: Yard) -> None:
        job_id = yard.bench.submit(**using())
        yard.bench.cancel(job_id)
        yard.pass_time()
        with yard.bench.db.write() as session:
            jobs.delete(session, job_id)

        assert yard.clean(keep_weights_days=1.0).weights == 0
        yard.pass_time()
        assert yard.clean(keep_weights_days=1.0).weights == 1

    def test_and_of_those_that_are_gone_a_job_is_refused(self, yard: Yard) -> None:
        yard.clean(keep_weights_days=1.0)

        with pytest.raises(MissingWeights, match="POST /weights first"):
            yard.bench.submit(**using())

        upload(yard)
        yard.bench.submit(**using())


class TestAMeeting:
    """Somebody names them, or sends them again, in the very moment in which the cleaner forgets them."""

    HELD_SECONDS = 0.3  # a cleaner or a caller that nobody kept waiting would be through by then

    @pytest.fixture(autouse=True)
    def old(self, bench: Bench) -> None:
        yard = Yard(bench, LocalShelf(bench.store))  # type: ignore[arg-type]
        upload(yard)
        yard.pass_time()

    def test_named_first_they_stay(self, bench: Bench) -> None:
        through = threading.Event()

        def forget() -> None:
            with bench.db.write() as session:
                weights.forget(session, [SHA256], idle_ms=1000)
            through.set()

        cleaner = threading.Thread(target=forget)
        with bench.db.write() as session:
            jobs.submit(session, a_spec(**using()))
            cleaner.start()
            assert not through.wait(self.HELD_SECONDS), "it waits for those who name them"
        cleaner.join()

        assert known(bench)

    @pytest.mark.parametrize("what", ["a job", "the same file"])
    def test_forgotten_first_a_job_is_refused_and_a_file_is_new(self, bench: Bench, what: str) -> None:
        through = threading.Event()
        refused: list[Exception] = []

        def come() -> None:
            try:
                with bench.db.write() as session:
                    if what == "a job":
                        jobs.submit(session, a_spec(**using()))
                    else:
                        weights.find(session, SHA256)  # as the API does: what it sees may be about to go
                        weights.record(session, artifacts.Blob(sha256=SHA256, bytes=len(DATA)), tensors=1)
            except MissingWeights as error:
                refused.append(error)
            through.set()

        caller = threading.Thread(target=come)
        with bench.db.write() as session:
            assert weights.forget(session, [SHA256], idle_ms=1000) == 1
            caller.start()
            assert not through.wait(self.HELD_SECONDS), "it waits for the cleaner"
        caller.join()

        assert known(bench) is (what == "the same file")
        assert len(refused) == (what == "a job")
