"""What the dispatcher asks of attempts: the next one, and which are overdue."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from purlkit.results import Outcome, Phase
from services import attempts
from services.states import AttemptState, JobState
from services.tables import Attempt, Job
from services.testing import settings_in
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

    def test_a_job_whose_spec_means_nothing_to_this_program_fails_and_says_so(self, bench: Bench) -> None:
        unreadable, readable = bench.submit(), bench.submit()
        with bench.db.write() as session:
            session.execute(update(Job).where(Job.id == unreadable).values(spec={"of": "another version"}))

        assert bench.claim().claim.job_id == readable

        job = bench.job(unreadable)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error["code"] == "unreadable_spec"


class TestOverdue:
    def test_an_attempt_that_never_reports_expires(self, bench: Bench) -> None:
        bench.submit()
        worker = bench.claim()
        assert bench.overdue(attempts.expired) == []

        bench.age(worker, 61)

        assert bench.overdue(attempts.expired) == [worker.claim.attempt_id]
        assert bench.overdue(attempts.stalled) == []

    def test_beats_without_steps_are_a_stall(self, bench: Bench) -> None:
        worker = bench.running()
        bench.age(worker, 301)

        worker.beat(moved=False)
        assert bench.overdue(attempts.stalled) == [worker.claim.attempt_id]
        assert bench.overdue(attempts.expired) == []

        worker.beat(moved=True)
        assert bench.overdue(attempts.stalled) == []

    def test_a_network_whose_steps_are_slow_has_twenty_of_them(self, bench: Bench) -> None:
        """Steps of 30 s: 20 of them are 600 s, twice the setting."""
        worker = bench.running()
        for _ in range(3):
            bench.age(worker, 30)
            worker.beat(moved=True)

        bench.age(worker, 590)
        assert bench.overdue(attempts.stalled) == []

        bench.age(worker, 20)
        assert bench.overdue(attempts.stalled) == [worker.claim.attempt_id]

    def test_what_steps_took_in_another_phase_does_not_count(self, bench: Bench) -> None:
        worker = bench.running()
        bench.age(worker, 200)
        worker.beat(moved=True)
        worker.beat(phase=Phase.RACE)
        assert worker.attempt.pace is None

        bench.age(worker, 301)

        assert bench.overdue(attempts.stalled) == [worker.claim.attempt_id]

    def test_a_new_phase_is_no_stall(self, bench: Bench) -> None:
        worker = bench.running()
        bench.age(worker, 301)

        worker.beat(phase=Phase.RACE, moved=False)

        assert bench.overdue(attempts.stalled) == []

    def test_running_time_counts_over_all_attempts(self, bench: Bench) -> None:
        first = bench.running(timeout_seconds=100.0)
        bench.age(first, 59)
        bench.rescue(first)
        second = bench.next_try(first.claim.job_id)
        second.beat()
        assert bench.overdue(attempts.expired) == []
        bench.age(second, 42)
        second.beat()

        assert bench.overdue(attempts.expired) == [second.claim.attempt_id]
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
        assert bench.overdue(attempts.unreaped) == []
        assert bench.overdue(attempts.live) == [worker.claim.attempt_id]

        worker.succeed()
        assert bench.overdue(attempts.live) == []
        assert bench.overdue(attempts.unreaped) == [worker.claim.attempt_id]
        assert worker.attempt.handle == handle
        with bench.db.write() as session:
            attempts.reaped(session, worker.claim.attempt_id)

        assert bench.overdue(attempts.unreaped) == []
