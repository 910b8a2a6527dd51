"""What a worker says under its token while it works."""

from __future__ import annotations

import pytest

from purlkit.results import Phase
from services import attempts
from services.errors import AttemptSuperseded, Unauthorized
from services.states import AttemptState, JobState
from services.tables import SavedBlob
from services.testing import a_blob
from tests.bench import Bench


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
        assert bench.overdue(attempts.expired) == [worker.claim.attempt_id]

        worker.beat()

        assert bench.overdue(attempts.expired) == []

    def test_a_drain_is_handed_over_once_asked_for(self, bench: Bench) -> None:
        worker = bench.running()
        with bench.db.write() as session:
            attempts.request_drain(session, worker.claim.attempt_id)

        assert worker.beat() == "drain"


def test_saved_work_is_one_row_for_each_name(bench: Bench) -> None:
    worker = bench.running()
    for data in (b"1", b"2", b"2"):
        worker.save("search", data)

    with bench.db.read() as session:
        row = session.get_one(SavedBlob, (worker.claim.job_id, "search"))

    assert (row.sha256, row.bytes) == (a_blob(b"2").sha256, 1)
