"""How attempts end, and what becomes of their jobs."""

from __future__ import annotations

import pytest

from purlkit.results import CHECKPOINT, Finish, Outcome
from services import artifacts
from services.errors import AttemptSuperseded, IllegalMove, InvalidFinish
from services.states import AttemptState, JobState
from services.testing import a_blob, a_result
from tests.bench import Bench


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

    def test_lost_attempts_do_not_count_as_that_fault(self, bench: Bench) -> None:
        worker = bench.running(max_attempts=2)
        job_id = worker.claim.job_id

        assert worker.fail(retryable=True).state is JobState.QUEUED
        assert bench.rescue(bench.next_try(job_id)).state is JobState.QUEUED
        assert bench.next_try(job_id).leave(Outcome.DRAINED).state is JobState.QUEUED
        assert bench.next_try(job_id).fail(retryable=True).state is JobState.FAILED

    def test_the_code_of_an_error_may_be_as_long_as_its_record_allows(self, bench: Bench) -> None:
        worker = bench.running()

        worker.fail(code="x" * 100)

        assert worker.attempt.cause == "x" * 100

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


def test_nobody_can_cancel_what_nobody_asked_to_cancel(bench: Bench) -> None:
    worker = bench.running()

    with pytest.raises(IllegalMove):
        worker.leave(Outcome.CANCELLED)

    assert bench.state(worker) is JobState.RUNNING
