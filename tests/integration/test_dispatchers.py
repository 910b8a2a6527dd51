"""Several dispatchers on one database: each ends processes only where it can see them, and stops only its own."""

from __future__ import annotations

from services import attempts, jobs
from services.dispatcher import Dispatcher
from services.states import AttemptState, JobState
from services.testing import FakeLauncher, FakeWorker
from tests.bench import Bench
from tests.scene import Scene, handle_of


class TwoPlaces:
    """Two machines, a dispatcher on each. The first has started an attempt."""

    def __init__(self, bench: Bench) -> None:
        self.here = Scene(bench, FakeLauncher(place="here"), PURL_MAX_RUNNING="2", PURL_DRAIN_SECONDS="0.05")
        self.there = Scene(bench, FakeLauncher(place="there"), PURL_MAX_RUNNING="2", PURL_DRAIN_SECONDS="0.05")
        self.worker: FakeWorker = self.here.start()
        self.worker.beat()
        # The same process id is another process there.
        self.there.launcher.die(handle_of(self.worker))


def test_what_is_not_to_be_seen_from_here_is_not_dead(bench: Bench) -> None:
    two = TwoPlaces(bench)

    two.there.dispatcher.tick()

    assert two.worker.attempt.state is AttemptState.RUNNING


def test_a_lease_that_ran_out_is_found_from_anywhere_and_the_processes_are_left_to_their_own_place(
    bench: Bench,
) -> None:
    two = TwoPlaces(bench)
    handle = handle_of(two.worker)
    bench.age(two.worker, 61)

    two.there.dispatcher.tick()
    assert two.worker.attempt.state is AttemptState.LOST
    assert bench.state(two.worker) is JobState.QUEUED
    assert two.there.launcher.ended == []
    assert handle_of(two.worker) == handle, "somebody has to end it yet"

    Dispatcher(bench.db, bench.settings, two.here.launcher, bench.store, linger_seconds=-1).tick()
    assert two.here.launcher.ended == [handle]
    assert two.worker.attempt.handle is None


def test_what_a_place_without_a_dispatcher_left_behind_takes_no_room_for_ever(bench: Bench) -> None:
    two = TwoPlaces(bench)
    two.worker.succeed()
    attended = Dispatcher(bench.db, bench.settings, two.there.launcher, bench.store, linger_seconds=-1)

    attended.tick()
    assert two.worker.attempt.handle is not None, "its own dispatcher is there"

    two.here.withdraw()
    attended.tick()
    assert two.worker.attempt.handle is None


def test_what_a_deleted_job_left_is_ended_where_it_is(bench: Bench) -> None:
    two = TwoPlaces(bench)
    handle = handle_of(two.worker)
    two.worker.succeed()
    with bench.db.write() as session:
        jobs.delete(session, two.worker.claim.job_id)

    two.there.dispatcher.tick()
    assert two.there.launcher.ended == []

    two.here.dispatcher.tick()
    assert two.here.launcher.ended == [handle]
    with bench.db.read() as session:
        assert attempts.leftovers(session) == []


def test_what_a_deleted_job_left_where_nobody_is_any_more_is_forgotten(bench: Bench) -> None:
    two = TwoPlaces(bench)
    two.worker.succeed()
    with bench.db.write() as session:
        jobs.delete(session, two.worker.claim.job_id)
    two.here.withdraw()

    two.there.dispatcher.tick()

    with bench.db.read() as session:
        assert attempts.leftovers(session) == []


def test_a_stopping_dispatcher_drains_its_own_place_alone(bench: Bench) -> None:
    two = TwoPlaces(bench)
    other = bench.submit()
    two.there.dispatcher.tick()

    assert two.here.drain()

    assert two.worker.attempt.state is AttemptState.DRAINED
    assert two.there.latest().claim.job_id == other
    assert two.there.latest().attempt.state is AttemptState.LAUNCHING


def test_of_two_in_one_place_the_one_that_stops_leaves_the_attempts_to_the_other(bench: Bench) -> None:
    launcher = FakeLauncher()
    first, second = (Scene(bench, launcher, sole=False, PURL_DRAIN_SECONDS="0.05") for _ in range(2))
    worker = first.start()
    worker.beat()
    second.dispatcher.tick()

    assert first.drain()
    assert worker.attempt.state is AttemptState.RUNNING

    assert second.drain()
    assert worker.attempt.state is AttemptState.DRAINED
