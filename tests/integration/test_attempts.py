"""Attempts from their claim to their end, and what becomes of the job."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.exc import IntegrityError

from purlkit.results import CHECKPOINT, Finish, Outcome, Phase
from services import artifacts, attempts
from services.errors import AttemptSuperseded, IllegalMove, InvalidFinish, Unauthorized
from services.states import AttemptState, JobState
from services.tables import Attempt, SavedBlob
from services.testing import FakeWorker, a_blob, a_result, settings_in
from tests.bench import Bench


class TestClaim:
    def test_a_claim_is_an_attempt_that_is_being_launched(self, bench: Bench) -> None:
        job_id = bench.submit()

        worker = bench.claim()

        attempt = worker.attempt
        assert (attempt.job_id, attempt.number, attempt.state) == (job_id, 1, AttemptState.LAUNCHING)
        assert bench.job(job_id).state is JobState.QUEUED
        assert worker.claim.token not in repr(worker.claim)
        assert worker.claim.token not in str(attempt.__dict__)

    def test_a_claimed_job_is_not_claimed_again(self, bench: Bench) -> None:
        bench.submit()
        bench.claim()

        with bench.db.write() as session:
            assert attempts.claim(session, bench.settings) is None

    def test_no_more_attempts_live_than_the_settings_allow(self, bench: Bench) -> None:
        one_at_a_time = settings_in(bench.settings.data_dir)
        bench.submit()
        second = bench.submit()
        worker = bench.claim()

        with bench.db.write() as session:
            assert attempts.claim(session, one_at_a_time) is None
        worker.succeed()
        with bench.db.write() as session:
            claim = attempts.claim(session, one_at_a_time)

        assert claim is not None
        assert claim.job_id == second

    def test_a_job_is_passed_over_until_its_time_has_come(self, bench: Bench) -> None:
        waiting = bench.running()
        bench.rescue(waiting)
        bench.submit(priority=-1)

        assert bench.claim().claim.job_id != waiting.claim.job_id

    def test_the_database_refuses_a_second_live_attempt_of_a_job(self, bench: Bench) -> None:
        first = bench.running().attempt
        columns = {column.name: getattr(first, column.name) for column in Attempt.__table__.columns}
        second = Attempt(**{**columns, "id": "att_" + "0" * 26, "number": 2})

        with pytest.raises(IntegrityError), bench.db.write() as session:
            session.add(second)


class TestToken:
    def test_opens_its_own_attempt_only(self, bench: Bench) -> None:
        bench.submit()
        bench.submit()
        mine, other = bench.claim().claim, bench.claim().claim

        with bench.db.read() as session:
            assert attempts.authenticate(session, mine.attempt_id, mine.token).id == mine.attempt_id
            for attempt_id, token in (
                (mine.attempt_id, other.token),
                (mine.attempt_id, ""),
                ("att_" + "0" * 26, mine.token),
                ("nonsense\0", mine.token),
            ):
                with pytest.raises(Unauthorized):
                    attempts.authenticate(session, attempt_id, token)

    def test_of_an_ended_attempt_opens_nothing(self, bench: Bench) -> None:
        worker = bench.running()
        bench.rescue(worker)

        with pytest.raises(AttemptSuperseded), bench.db.read() as session:
            attempts.authenticate(session, worker.claim.attempt_id, worker.claim.token)


class TestWork:
    def test_the_first_word_makes_attempt_and_job_running(self, bench: Bench) -> None:
        job_id = bench.submit()
        worker = bench.claim()

        assert worker.beat(phase=Phase.CHECKING) == "continue"

        job = bench.job(job_id)
        assert (job.state, job.phase) == (JobState.RUNNING, "checking")
        assert job.started_at is not None
        assert job.last_heartbeat_at is not None
        assert worker.attempt.state is AttemptState.RUNNING

    def test_a_brief_has_the_spec_and_what_was_saved_before(self, bench: Bench) -> None:
        first = bench.running(seed=3)
        first.save("dense", b"weights")
        first.save("search", b"old")
        first.save("search", b"new")
        bench.rescue(first)
        second = bench.next_try(first.claim.job_id)

        with bench.db.read() as session:
            brief = attempts.brief(session, second.attempt)
            found = attempts.find_saved(session, second.attempt, "search")

        assert (brief.number, brief.spec.seed, brief.weights_href) == (2, 3, None)
        assert {name: saved.sha256 for name, saved in brief.saved.items()} == {
            "dense": a_blob(b"weights").sha256,
            "search": a_blob(b"new").sha256,
        }
        assert brief.saved["dense"].href == f"/attempts/{second.claim.attempt_id}/saved/dense"
        assert found.sha256 == a_blob(b"new").sha256
        assert (brief.lease_seconds, brief.heartbeat_seconds) == (60, 10)

    def test_a_heartbeat_renews_the_lease(self, bench: Bench) -> None:
        worker = bench.running()
        bench.age(worker, 61)
        assert overdue(bench, attempts.expired) == [worker.claim.attempt_id]

        worker.beat()

        assert overdue(bench, attempts.expired) == []

    def test_a_drain_is_handed_over_once_asked_for(self, bench: Bench) -> None:
        worker = bench.running()
        with bench.db.write() as session:
            attempts.request_drain(session, worker.claim.attempt_id)

        assert worker.beat() == "drain"


def overdue(bench: Bench, query: Callable[..., list[Attempt]]) -> list[str]:
    with bench.db.read() as session:
        return [attempt.id for attempt in query(session)]


class TestOverdue:
    def test_an_attempt_that_never_reports_expires(self, bench: Bench) -> None:
        bench.submit()
        worker = bench.claim()
        assert overdue(bench, attempts.expired) == []

        bench.age(worker, 61)

        assert overdue(bench, attempts.expired) == [worker.claim.attempt_id]
        assert overdue(bench, attempts.stalled) == []

    def test_beats_without_steps_are_a_stall(self, bench: Bench) -> None:
        worker = bench.running()
        bench.age(worker, 301)

        worker.beat(moved=False)
        assert overdue(bench, attempts.stalled) == [worker.claim.attempt_id]
        assert overdue(bench, attempts.expired) == []

        worker.beat(moved=True)
        assert overdue(bench, attempts.stalled) == []

    def test_a_new_phase_is_no_stall(self, bench: Bench) -> None:
        worker = bench.running()
        bench.age(worker, 301)

        worker.beat(phase=Phase.RACE, moved=False)

        assert overdue(bench, attempts.stalled) == []

    def test_running_time_counts_over_all_attempts(self, bench: Bench) -> None:
        first = bench.running(timeout_seconds=100.0)
        bench.age(first, 59)
        bench.rescue(first)
        second = bench.next_try(first.claim.job_id)
        second.beat()
        assert overdue(bench, attempts.expired) == []
        bench.age(second, 42)
        second.beat()

        assert overdue(bench, attempts.expired) == [second.claim.attempt_id]
        job = bench.rescue(second)

        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error["code"] == "timeout"
        assert second.attempt.cause == "timeout"

    def test_a_worker_that_drains_because_its_time_is_up_has_run_out_of_time(self, bench: Bench) -> None:
        worker = bench.running(timeout_seconds=100.0)
        bench.age(worker, 101)
        worker.beat()

        job = worker.leave(Outcome.DRAINED)

        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error["code"] == "timeout"

    def test_only_an_ended_attempt_with_processes_is_left_to_reap(self, bench: Bench) -> None:
        worker = bench.running()
        handle = {"pid": 1, "started": 2, "host": "here"}
        with bench.db.write() as session:
            attempts.launched(session, worker.claim.attempt_id, handle)
        assert overdue(bench, attempts.unreaped) == []
        assert overdue(bench, attempts.live) == [worker.claim.attempt_id]

        worker.succeed()
        assert overdue(bench, attempts.live) == []
        assert overdue(bench, attempts.unreaped) == [worker.claim.attempt_id]
        assert worker.attempt.handle == handle
        with bench.db.write() as session:
            attempts.reaped(session, worker.claim.attempt_id)

        assert overdue(bench, attempts.unreaped) == []


class TestSuccess:
    def test_publishes_its_artifacts_and_ends_the_job(self, bench: Bench) -> None:
        worker = bench.running()
        worker.stage("policy.json", b"{}")
        worker.stage("left-out", b"scratch")
        worker.stage(CHECKPOINT, b"network")
        result = a_result(a_blob(b"network"))

        job = worker.finish(Finish(outcome=Outcome.SUCCEEDED, result=result, artifacts=(CHECKPOINT, "policy.json")))

        assert job.state is JobState.SUCCEEDED
        assert job.result == result.model_dump(mode="json")
        assert job.error is None
        assert job.progress is not None
        assert job.progress["fraction"] == 1
        with bench.db.read() as session:
            names = [artifact.name for artifact in artifacts.list_published(session, job.id)]
        assert names == ["policy.json", CHECKPOINT]

    def test_saying_it_again_gets_the_same_answer(self, bench: Bench) -> None:
        worker = bench.running()
        job = worker.succeed()
        result = a_result(a_blob(b"the pruned network"))
        last_word = Finish(outcome=Outcome.SUCCEEDED, result=result, artifacts=(CHECKPOINT,))

        again = worker.finish(last_word)

        assert (again.id, again.state, again.version) == (job.id, job.state, job.version)

    def test_saying_something_else_afterwards_does_not_count(self, bench: Bench) -> None:
        worker = bench.running()
        job = worker.succeed()

        with pytest.raises(AttemptSuperseded):
            worker.fail()

        assert bench.job(job.id).version == job.version

    @pytest.mark.parametrize(
        "artifact_names", [(), (CHECKPOINT, "never-uploaded")], ids=["checkpoint not named", "one never uploaded"]
    )
    def test_without_what_it_names_nothing_is_published(self, bench: Bench, artifact_names: tuple[str, ...]) -> None:
        worker = bench.running()
        worker.stage(CHECKPOINT, b"network")
        result = a_result(a_blob(b"network"))

        with pytest.raises(InvalidFinish):
            worker.finish(Finish(outcome=Outcome.SUCCEEDED, result=result, artifacts=artifact_names))

        assert bench.state(worker) is JobState.RUNNING
        with bench.db.read() as session:
            assert artifacts.list_published(session, worker.claim.job_id) == []

    def test_the_result_must_speak_of_the_uploaded_checkpoint(self, bench: Bench) -> None:
        worker = bench.running()
        worker.stage(CHECKPOINT, b"network")
        result = a_result(a_blob(b"another"))

        with pytest.raises(InvalidFinish, match="another checkpoint"):
            worker.finish(Finish(outcome=Outcome.SUCCEEDED, result=result, artifacts=(CHECKPOINT,)))

    def test_a_pending_pause_yields_to_it(self, bench: Bench) -> None:
        worker = bench.running()
        bench.pause(worker.claim.job_id)

        job = worker.succeed()

        assert (job.state, job.requested) == (JobState.SUCCEEDED, None)

    def test_a_cancel_does_not(self, bench: Bench) -> None:
        worker = bench.running()
        bench.cancel(worker.claim.job_id)

        job = worker.succeed()

        assert job.state is JobState.CANCELLED
        assert job.result is None
        assert worker.attempt.state is AttemptState.CANCELLED
        with bench.db.read() as session:
            assert artifacts.list_published(session, job.id) == []


class TestFailure:
    def test_ends_the_job_with_code_and_message(self, bench: Bench) -> None:
        worker = bench.running()

        job = worker.fail(code="shape_mismatch")

        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error["code"] == "shape_mismatch"
        assert worker.attempt.reason == "it went wrong"

    def test_the_same_fault_is_retried_until_max_attempts(self, bench: Bench) -> None:
        worker = bench.running(max_attempts=3)
        job_id = worker.claim.job_id

        assert worker.fail(retryable=True).state is JobState.QUEUED
        assert bench.next_try(job_id).fail(retryable=True).state is JobState.QUEUED
        assert bench.next_try(job_id).fail(retryable=True).state is JobState.FAILED

    def test_faults_at_different_places_are_counted_apart(self, bench: Bench) -> None:
        worker = bench.running(max_attempts=2)
        job_id = worker.claim.job_id

        assert worker.fail(where="a.py:1", retryable=True).state is JobState.QUEUED
        assert bench.next_try(job_id).fail(where="b.py:2", retryable=True).state is JobState.QUEUED
        assert bench.next_try(job_id).fail(where="a.py:1", retryable=True).state is JobState.FAILED

    def test_a_retry_waits_and_says_what_for(self, bench: Bench) -> None:
        worker = bench.running()

        job = worker.fail(retryable=True)

        assert 1000 < job.not_before - (worker.attempt.ended_at or 0) <= 2100
        assert job.waiting_for == "it went wrong"

    def test_a_cancelled_job_does_not_try_again(self, bench: Bench) -> None:
        worker = bench.running()
        bench.cancel(worker.claim.job_id)

        assert worker.fail(retryable=True).state is JobState.CANCELLED
        assert worker.attempt.state is AttemptState.FAILED

    def test_a_paused_job_rests_before_it_tries_again(self, bench: Bench) -> None:
        worker = bench.running()
        bench.pause(worker.claim.job_id)

        assert worker.fail(retryable=True).state is JobState.PAUSED

    def test_a_failure_without_an_error_is_refused(self, bench: Bench) -> None:
        worker = bench.running()

        with pytest.raises(InvalidFinish):
            worker.leave(Outcome.FAILED)


class TestInterruption:
    def test_a_lost_attempt_sends_its_job_back_to_the_queue(self, bench: Bench) -> None:
        worker = bench.running()

        job = bench.rescue(worker)

        assert (job.state, job.phase) == (JobState.QUEUED, None)
        assert (worker.attempt.state, worker.attempt.reason) == (AttemptState.LOST, "it was killed")
        assert bench.next_try(job.id).claim.number == 2

    def test_lost_before_it_reported_leaves_the_job_queued(self, bench: Bench) -> None:
        job_id = bench.submit()
        worker = bench.claim()

        bench.rescue(worker)

        assert bench.states(job_id) == ["queued"]
        assert bench.next_try(job_id).claim.number == 2

    def test_a_stall_is_told_as_the_cause(self, bench: Bench) -> None:
        worker = bench.running()

        bench.rescue(worker, cause="stalled")

        assert (worker.attempt.state, worker.attempt.cause) == (AttemptState.LOST, "stalled")

    def test_waits_double_up_to_a_minute(self, bench: Bench) -> None:
        worker = bench.running()
        job_id = worker.claim.job_id
        waits = []

        for _ in range(9):
            job = bench.rescue(worker)
            waits.append(round((job.not_before - (worker.attempt.ended_at or 0)) / 1000))
            worker = bench.next_try(job_id)
            worker.beat()

        assert waits == [2, 4, 8, 16, 32, 60, 60, 60, 60]

    def test_ten_in_a_row_without_progress_are_enough(self, bench: Bench) -> None:
        job_id = bench.submit()

        for _ in range(9):
            assert bench.rescue(bench.next_try(job_id)).state is JobState.QUEUED
        job = bench.rescue(bench.next_try(job_id), reason="no such machine")

        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error["code"] == "attempts_exhausted"
        assert "no such machine" in job.error["message"]

    def test_progress_starts_the_count_anew_and_needs_no_wait(self, bench: Bench) -> None:
        worker = bench.running()
        job_id = worker.claim.job_id

        for number in range(20):
            worker.save("search", f"after episode {number}".encode())
            bench.rescue(worker)
            worker = bench.claim()

        assert bench.job(job_id).fruitless == 0

    def test_saving_what_was_saved_before_is_no_progress(self, bench: Bench) -> None:
        worker = bench.running()
        worker.save("dense", b"weights")
        bench.rescue(worker)
        second = bench.claim()

        second.save("dense", b"weights")

        assert bench.rescue(second).fruitless == 1

    def test_a_drained_attempt_goes_on_at_once(self, bench: Bench) -> None:
        worker = bench.running()

        assert worker.leave(Outcome.DRAINED).state is JobState.QUEUED

        assert worker.attempt.state is AttemptState.DRAINED
        assert bench.claim().claim.job_id == worker.claim.job_id

    def test_one_that_had_to_be_ended_while_draining_does_too(self, bench: Bench) -> None:
        worker = bench.running()

        bench.rescue(worker, cause="drained")

        assert worker.attempt.state is AttemptState.DRAINED
        assert bench.claim().claim.job_id == worker.claim.job_id

    @pytest.mark.parametrize("end", ["lost", "drained"])
    def test_what_was_asked_for_happens_when_the_attempt_is_gone(self, bench: Bench, end: str) -> None:
        def interrupt(worker: FakeWorker) -> JobState:
            return (bench.rescue(worker) if end == "lost" else worker.leave(Outcome.DRAINED)).state

        cancelled, paused = bench.running(), bench.running()
        bench.cancel(cancelled.claim.job_id)
        bench.pause(paused.claim.job_id)

        assert interrupt(cancelled) is JobState.CANCELLED
        assert interrupt(paused) is JobState.PAUSED

    def test_an_attempt_that_ended_by_itself_can_not_be_given_up(self, bench: Bench) -> None:
        worker = bench.running()
        job = worker.succeed()

        assert bench.rescue(worker).state is JobState.SUCCEEDED

        assert bench.job(job.id).version == job.version
        assert worker.attempt.state is AttemptState.SUCCEEDED

    def test_the_log_of_a_dead_attempt_is_kept(self, bench: Bench) -> None:
        worker = bench.running()
        log = a_blob(b"Killed")

        with bench.db.write() as session:
            artifacts.announce(session, log.sha256)
            attempts.rescue(session, worker.attempt, reason="it was killed", log=log)

        with bench.db.read() as session:
            assert artifacts.find(session, worker.claim.job_id, "attempt.log").sha256 == log.sha256


def test_nobody_can_cancel_what_nobody_asked_to_cancel(bench: Bench) -> None:
    worker = bench.running()

    with pytest.raises(IllegalMove):
        worker.leave(Outcome.CANCELLED)

    assert bench.state(worker) is JobState.RUNNING


def test_saved_work_is_one_row_for_each_name(bench: Bench) -> None:
    worker = bench.running()
    for data in (b"1", b"2", b"2"):
        worker.save("search", data)

    with bench.db.read() as session:
        row = session.get_one(SavedBlob, (worker.claim.job_id, "search"))

    assert (row.sha256, row.bytes) == (a_blob(b"2").sha256, 1)
