"""The dispatcher's decisions, on a real database: what it starts, what it gives up, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from purlkit.results import Outcome
from services import logs
from services.database import clock
from services.dispatcher import Dispatcher
from services.launch import Handle
from services.states import AttemptState, JobState
from services.tables import Attempt
from services.testing import FakeLauncher, FakeWorker
from tests.bench import Bench
from tests.scene import Scene, handle_of
from tests.waiting import wait_until


@pytest.fixture
def scene(bench: Bench) -> Scene:
    return Scene(bench, FakeLauncher())


def test_a_queued_job_gets_an_attempt_with_all_that_it_needs_to_report(scene: Scene, bench: Bench) -> None:
    job_id = bench.submit()

    scene.dispatcher.tick()

    (launch,) = scene.launcher.launches
    worker = scene.latest()
    assert worker.claim.job_id == job_id
    assert launch.module == "workers.run"
    assert launch.env["PURL_URL"] == "http://service"
    assert launch.env["PURL_DATASETS_DIR"] == str(bench.settings.datasets_dir)
    assert launch.env["PURL_DOWNLOAD"] == "", "nothing is fetched unless the operator says so"
    assert launch.env["PURL_RAY_ADDRESS"] == ""
    assert launch.log_path == bench.settings.data_dir / "logs" / f"{worker.claim.attempt_id}.log"
    assert handle_of(worker) == launch.handle
    assert worker.beat() == "continue", "the token opens the attempt"


def test_no_more_attempts_run_at_once_than_the_settings_allow(bench: Bench) -> None:
    scene = Scene(bench, FakeLauncher(), PURL_MAX_RUNNING="2")
    for _ in range(3):
        bench.submit()

    scene.dispatcher.tick()
    scene.dispatcher.tick()

    assert len(scene.launcher.launches) == 2


def test_a_dead_process_does_not_wait_for_its_lease(scene: Scene, bench: Bench) -> None:
    worker = scene.start()
    worker.beat()
    handle = handle_of(worker)

    scene.launcher.die(handle)
    scene.dispatcher.tick()

    assert worker.attempt.state is AttemptState.LOST
    assert worker.attempt.reason == "its process died without a last word"
    assert bench.state(worker) is JobState.QUEUED
    assert scene.launcher.ended == [handle], "what it left behind is ended before the next attempt"
    assert worker.attempt.handle is None


def test_an_attempt_that_saved_its_work_is_followed_at_once(scene: Scene) -> None:
    worker = scene.start()
    worker.save("search", b"one episode")
    scene.launcher.die(handle_of(worker))

    scene.dispatcher.tick()

    assert scene.latest().claim.number == 2
    assert scene.latest().claim.job_id == worker.claim.job_id


@pytest.mark.parametrize("reported", [True, False], ids=["fell silent", "never reported"])
def test_a_silent_attempt_is_ended_when_its_lease_has_run_out(scene: Scene, bench: Bench, reported: bool) -> None:
    worker = scene.start()
    if reported:
        worker.beat()
    handle = handle_of(worker)

    bench.age(worker, bench.settings.lease_seconds + 1)
    scene.dispatcher.tick()

    assert worker.attempt.cause == "lost"
    assert worker.attempt.reason == (
        "its lease ran out: nothing was heard from it for 60 s"
        if reported
        else "it did not report within 60 s: can it reach PURL_PUBLIC_URL?"
    )
    assert bench.state(worker) is JobState.QUEUED
    assert scene.launcher.ended == [handle]


def test_a_lease_that_ends_between_two_looks_at_the_clock_is_taken_for_nothing_else(
    scene: Scene, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine they lie apart; the job would be told of a timeout that it does not have."""
    worker = scene.start()
    worker.beat()
    bench.age(worker, bench.settings.lease_seconds - 0.3)

    def slow_clock(session: Session) -> int:
        now = clock(session)
        wait_until("the lease is over", lambda: clock(session) > worker.attempt.lease_until)
        return now

    monkeypatch.setattr("services.dispatcher.clock", slow_clock)
    scene.tick_until("it is given up", lambda: worker.attempt.state.is_terminal)

    assert worker.attempt.reason == "its lease ran out: nothing was heard from it for 60 s"


def test_a_claim_whose_process_was_never_started_is_given_up_with_its_lease(scene: Scene, bench: Bench) -> None:
    bench.submit()
    worker = bench.claim()

    scene.dispatcher.tick()
    assert not worker.attempt.state.is_terminal

    bench.age(worker, bench.settings.lease_seconds + 1)
    scene.dispatcher.tick()
    assert worker.attempt.state is AttemptState.LOST
    assert scene.launcher.ended == []


def test_an_attempt_that_beats_over_a_hung_search_is_ended(scene: Scene, bench: Bench) -> None:
    worker = scene.start()
    worker.beat()
    bench.age(worker, bench.settings.stall_seconds + 1)
    worker.beat(moved=False)

    scene.dispatcher.tick()

    assert worker.attempt.cause == "stalled"
    assert bench.state(worker) is JobState.QUEUED


class DrainsWhenEnded(FakeLauncher):
    """What the signal of a launcher does to a worker that can still listen."""

    worker: FakeWorker | None = None

    def end(self, handle: Handle, *, at_once: bool = False) -> None:
        if self.worker is not None:
            self.worker.leave(Outcome.DRAINED)
        super().end(handle, at_once=at_once)


def test_a_stall_stays_one_though_the_worker_answers_by_draining(bench: Bench) -> None:
    launcher = DrainsWhenEnded()
    scene = Scene(bench, launcher)
    launcher.worker = worker = scene.start()
    worker.beat()
    bench.age(worker, bench.settings.stall_seconds + 1)
    worker.beat(moved=False)

    scene.dispatcher.tick()

    assert (worker.attempt.state, worker.attempt.cause) == (AttemptState.LOST, "stalled")
    assert worker.attempt.reason == "it hung: no step and no batch ended within 300 s"
    assert bench.state(worker) is JobState.QUEUED
    assert worker.attempt.handle is None


def test_an_attempt_that_lives_is_left_alone(scene: Scene) -> None:
    worker = scene.start()
    worker.beat()

    scene.dispatcher.tick()

    assert worker.attempt.state is AttemptState.RUNNING
    assert scene.launcher.ended == []
    assert len(scene.launcher.launches) == 1


def test_a_cancel_that_is_not_followed_ends_the_attempt_a_lease_later(scene: Scene, bench: Bench) -> None:
    worker = scene.start()
    worker.beat()
    bench.cancel(worker.claim.job_id)

    scene.dispatcher.tick()
    assert bench.state(worker) is JobState.RUNNING, "it has a lease to follow"

    with bench.db.write() as session:
        session.execute(update(Attempt).values(lease_seconds=0))
    scene.tick_until("the grace is over", lambda: bench.state(worker) is JobState.CANCELLED)
    assert len(scene.launcher.ended) == 1


def test_a_cancel_before_the_first_report_ends_the_process(bench: Bench) -> None:
    scene = Scene(bench, FakeLauncher())
    worker = scene.start()
    handle = handle_of(worker)

    bench.cancel(worker.claim.job_id)
    Dispatcher(bench.db, bench.settings, scene.launcher, bench.store, linger_seconds=-1).tick()

    assert bench.state(worker) is JobState.CANCELLED
    assert scene.launcher.ended == [handle]


def test_a_worker_may_leave_in_its_own_time_after_its_last_word(scene: Scene, bench: Bench) -> None:
    worker = scene.start()
    worker.succeed()
    handle = handle_of(worker)

    scene.dispatcher.tick()
    assert scene.launcher.ended == []

    Dispatcher(bench.db, bench.settings, scene.launcher, bench.store, linger_seconds=-1).tick()
    assert scene.launcher.ended == [handle], "but not for ever"
    assert worker.attempt.handle is None
    assert bench.state(worker) is JobState.SUCCEEDED


def test_the_next_job_starts_when_the_last_ones_processes_have_gone(scene: Scene, bench: Bench) -> None:
    worker = scene.start()
    worker.succeed()
    bench.submit()

    scene.dispatcher.tick()
    assert len(scene.launcher.launches) == 1

    scene.launcher.die(handle_of(worker))
    scene.dispatcher.tick()
    assert len(scene.launcher.launches) == 2


def test_the_log_of_a_killed_attempt_is_kept(scene: Scene) -> None:
    worker = scene.start()
    log_path = scene.launcher.launches[-1].log_path
    log_path.parent.mkdir(parents=True)
    log_path.write_text("loading\nsearching\n")

    scene.launcher.die(handle_of(worker))
    scene.dispatcher.tick()

    assert scene.log_of(worker) == "loading\nsearching\n"


def test_the_log_of_an_attempt_that_failed_is_kept(scene: Scene, bench: Bench) -> None:
    worker = scene.start()
    log_path = scene.launcher.launches[-1].log_path
    log_path.parent.mkdir(parents=True)
    log_path.write_text("Traceback\n")

    worker.fail()
    scene.launcher.die(handle_of(worker))
    scene.dispatcher.tick()

    assert bench.state(worker) is JobState.FAILED
    assert scene.log_of(worker) == "Traceback\n"


def test_of_a_long_log_the_end_is_kept_from_the_beginning_of_a_line(tmp_path: Path, bench: Bench) -> None:
    path = tmp_path / "long.log"
    path.write_text("".join(f"line {number}\n" for number in range(200_000)))

    kept = logs.keep_tail(path, bench.db, bench.store)

    assert kept is not None
    assert kept.bytes <= logs.KEPT_BYTES
    lines = bench.store.path(kept.sha256).read_text().splitlines()
    assert lines[-1] == "line 199999"
    assert lines[0] == f"line {200_000 - len(lines)}"
