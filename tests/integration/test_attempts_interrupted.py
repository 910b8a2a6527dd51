"""Attempts that are lost, hang or drain: when their jobs try again, and when that is enough."""

from __future__ import annotations

import pytest

from purlkit.results import Outcome
from services import artifacts, attempts
from services.attempts.endings import Cause
from services.states import AttemptState, JobState
from services.testing import FakeWorker, a_blob
from tests.bench import Bench


def test_a_lost_attempt_sends_its_job_back_to_the_queue(bench: Bench) -> None:
    worker = bench.running()

    job = bench.rescue(worker)

    assert (job.state, job.phase) == (JobState.QUEUED, None)
    assert (worker.attempt.state, worker.attempt.reason) == (AttemptState.LOST, "it was killed")
    assert bench.next_try(job.id).claim.number == 2


def test_lost_before_it_reported_leaves_the_job_queued(bench: Bench) -> None:
    job_id = bench.submit()
    worker = bench.claim()

    bench.rescue(worker)

    assert bench.states(job_id) == ["queued"]
    assert bench.next_try(job_id).claim.number == 2


def test_a_stall_is_told_as_the_cause(bench: Bench) -> None:
    worker = bench.running()

    bench.rescue(worker, cause="stalled")

    assert (worker.attempt.state, worker.attempt.cause) == (AttemptState.LOST, "stalled")


@pytest.mark.parametrize("cause", ["stalled", "lost"])
def test_who_drains_only_because_it_is_being_ended_is_told_as_what_it_was(bench: Bench, cause: Cause) -> None:
    worker = bench.running()
    with bench.db.write() as session:
        attempts.condemn(session, worker.attempt, reason="it hung", cause=cause)

    job = worker.leave(Outcome.DRAINED)

    assert (worker.attempt.state, worker.attempt.cause) == (AttemptState.LOST, cause)
    assert worker.attempt.reason == job.waiting_for == "it hung"
    assert job.fruitless == 1
    assert job.not_before > (worker.attempt.ended_at or 0), "and waits before it tries again"


def test_what_it_was_condemned_for_outlives_the_dispatcher_that_was_about_to_end_it(bench: Bench) -> None:
    worker = bench.running()
    with bench.db.write() as session:
        attempts.condemn(session, worker.attempt, reason="it hung", cause="stalled")

    bench.rescue(worker, reason="its process died without a last word")

    assert (worker.attempt.reason, worker.attempt.cause) == ("it hung", "stalled")


def test_a_success_in_the_last_seconds_is_a_success(bench: Bench) -> None:
    worker = bench.running()
    with bench.db.write() as session:
        attempts.condemn(session, worker.attempt, reason="it hung", cause="stalled")

    assert worker.succeed().state is JobState.SUCCEEDED

    assert (worker.attempt.state, worker.attempt.reason) == (AttemptState.SUCCEEDED, None)


def test_waits_double_up_to_a_minute(bench: Bench) -> None:
    worker = bench.running()
    job_id = worker.claim.job_id
    waits = []

    for _ in range(9):
        job = bench.rescue(worker)
        waits.append(round((job.not_before - (worker.attempt.ended_at or 0)) / 1000))
        worker = bench.next_try(job_id)
        worker.beat()

    assert waits == [2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_ten_in_a_row_without_progress_are_enough(bench: Bench) -> None:
    job_id = bench.submit()

    for _ in range(9):
        assert bench.rescue(bench.next_try(job_id)).state is JobState.QUEUED
    job = bench.rescue(bench.next_try(job_id), reason="no such machine")

    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "attempts_exhausted"
    assert "no such machine" in job.error["message"]


def test_progress_starts_the_count_anew_and_needs_no_wait(bench: Bench) -> None:
    worker = bench.running()
    job_id = worker.claim.job_id

    for number in range(20):
        worker.save("search", f"after episode {number}".encode())
        bench.rescue(worker)
        worker = bench.claim()

    assert bench.job(job_id).fruitless == 0
    assert bench.job(job_id).not_before <= (worker.attempt.created_at), "and none of them had to wait"


def test_nine_in_a_row_without_progress_and_one_with_it_are_not_too_many(bench: Bench) -> None:
    """At most ten in a row: what was lost before the last progress does not count."""
    job_id = bench.submit()
    for _ in range(3):
        for _ in range(9):
            assert bench.rescue(bench.next_try(job_id)).state is JobState.QUEUED
        worker = bench.next_try(job_id)
        worker.save("search", worker.claim.attempt_id.encode())
        assert bench.rescue(worker).fruitless == 0


def test_saving_what_was_saved_before_is_no_progress(bench: Bench) -> None:
    worker = bench.running()
    worker.save("dense", b"weights")
    bench.rescue(worker)
    second = bench.claim()

    second.save("dense", b"weights")

    assert bench.rescue(second).fruitless == 1


def test_a_drained_attempt_goes_on_at_once(bench: Bench) -> None:
    worker = bench.running()

    assert worker.leave(Outcome.DRAINED).state is JobState.QUEUED

    assert worker.attempt.state is AttemptState.DRAINED
    assert bench.claim().claim.job_id == worker.claim.job_id


def test_one_that_had_to_be_ended_while_draining_does_too(bench: Bench) -> None:
    worker = bench.running()

    bench.rescue(worker, cause="drained")

    assert worker.attempt.state is AttemptState.DRAINED
    assert bench.claim().claim.job_id == worker.claim.job_id


@pytest.mark.parametrize("end", ["lost", "drained"])
def test_what_was_asked_for_happens_when_the_attempt_is_gone(bench: Bench, end: str) -> None:
    def interrupt(worker: FakeWorker) -> JobState:
        return (bench.rescue(worker) if end == "lost" else worker.leave(Outcome.DRAINED)).state

    cancelled, paused = bench.running(), bench.running()
    bench.cancel(cancelled.claim.job_id)
    bench.pause(paused.claim.job_id)

    assert interrupt(cancelled) is JobState.CANCELLED
    assert interrupt(paused) is JobState.PAUSED


def test_an_attempt_that_ended_by_itself_can_not_be_given_up(bench: Bench) -> None:
    worker = bench.running()
    job = worker.succeed()

    assert bench.rescue(worker).state is JobState.SUCCEEDED

    assert bench.job(job.id).version == job.version
    assert worker.attempt.state is AttemptState.SUCCEEDED


def test_the_log_of_a_dead_attempt_is_kept(bench: Bench) -> None:
    worker = bench.running()
    log = a_blob(b"Killed")

    with bench.db.write() as session:
        artifacts.announce(session, log.sha256)
        attempts.rescue(session, worker.attempt, reason="it was killed", log=log)

    with bench.db.read() as session:
        assert artifacts.find(session, worker.claim.job_id, "attempt.log").sha256 == log.sha256
