"""Jobs as their owners see them, on a real database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from purlkit.errors import MissingWeights, UnknownName
from purlkit.results import Outcome
from purlkit.spec import JobSpec
from services import artifacts, jobs, listing, weights
from services.errors import IdempotencyMismatch, IllegalMove, InvalidCursor, NotFound
from services.jobs import Submitted
from services.listing import Filter
from services.states import AttemptState, JobState
from services.tables import IdempotencyKey, Job
from services.testing import a_blob, a_spec
from tests.bench import Bench


def submit(bench: Bench, key: str, *, sparsity: float = 0.9) -> Submitted:
    with bench.db.write() as session:
        return jobs.submit(session, a_spec(targets={"sparsity": sparsity}), key=key)


def count_jobs(bench: Bench) -> int:
    with bench.db.read() as session:
        return session.scalars(select(func.count()).select_from(Job)).one()


def test_a_new_job_is_queued_with_its_resolved_spec(bench: Bench) -> None:
    job = bench.job(bench.submit(name="mine", priority=7, timeout_seconds=60.0, max_attempts=2))

    assert job.id.startswith("job_")
    assert (job.state, job.version) == (JobState.QUEUED, 1)
    assert (job.name, job.priority, job.timeout_seconds, job.max_attempts) == ("mine", 7, 60.0, 2)
    spec = JobSpec.model_validate(job.spec)
    assert spec.data.name == "digits"
    assert job.fingerprint == spec.fingerprint
    assert bench.states(job.id) == ["queued"]


def test_a_spec_that_names_what_does_not_exist_leaves_no_row(bench: Bench) -> None:
    spec = a_spec()
    unknown = spec.model_copy(update={"model": spec.model.model_copy(update={"name": "no-such-net"})})

    with pytest.raises(UnknownName), bench.db.write() as session:
        jobs.submit(session, unknown)

    assert count_jobs(bench) == 0


def test_uploaded_weights_must_be_here(bench: Bench) -> None:
    blob = a_blob(b"weights")
    model = {"name": "digits-resnet", "weights": {"sha256": blob.sha256}}

    with pytest.raises(MissingWeights) as refusal:
        bench.submit(model=model)
    assert refusal.value.at == "/model/weights/sha256"
    with bench.db.write() as session:
        artifacts.announce(session, blob.sha256)
        weights.record(session, blob, tensors=3)
        weights.record(session, blob, tensors=3)

    assert bench.job(bench.submit(model=model)).state is JobState.QUEUED


@pytest.mark.parametrize("job_id", ["", "job_", "job_" + "0" * 26, "att_" + "0" * 26, "job_\0", "../../etc/passwd"])
def test_an_unknown_or_malformed_id_is_not_found(bench: Bench, job_id: str) -> None:
    with pytest.raises(NotFound):
        bench.job(job_id)
    with pytest.raises(NotFound):
        bench.cancel(job_id)


def test_every_change_of_a_job_moves_its_version(bench: Bench) -> None:
    job_id = bench.submit()
    versions = [bench.job(job_id).version]
    worker = bench.claim()

    for step in (worker.beat, worker.beat, lambda: bench.pause(job_id), lambda: worker.leave(Outcome.PAUSED)):
        step()
        versions.append(bench.job(job_id).version)

    assert versions == sorted(set(versions))


class TestIdempotency:
    def test_the_same_key_and_body_give_the_same_job(self, bench: Bench) -> None:
        first, second = submit(bench, "k"), submit(bench, "k")

        assert (first.replayed, second.replayed) == (False, True)
        assert first.job.id == second.job.id
        assert count_jobs(bench) == 1

    def test_another_body_is_refused(self, bench: Bench) -> None:
        submit(bench, "k")

        with pytest.raises(IdempotencyMismatch):
            submit(bench, "k", sparsity=0.8)

        assert count_jobs(bench) == 1

    def test_a_key_is_forgotten_after_its_time(self, bench: Bench) -> None:
        first = submit(bench, "k")
        with bench.db.write() as session:
            session.execute(update(IdempotencyKey).values(expires_at=0))

        second = submit(bench, "k", sparsity=0.8)

        assert second.replayed is False
        assert second.job.id != first.job.id

    def test_a_refused_spec_does_not_take_the_key(self, bench: Bench) -> None:
        missing = a_spec(model={"name": "digits-resnet", "weights": {"sha256": "0" * 64}})
        with pytest.raises(MissingWeights), bench.db.write() as session:
            jobs.submit(session, missing, key="k")

        assert submit(bench, "k").replayed is False

    def test_many_at_once_make_one_job(self, bench: Bench) -> None:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: submit(bench, "k"), range(16)))

        assert len({answer.job.id for answer in answers}) == 1
        assert sorted(answer.replayed for answer in answers) == [False] + [True] * 15
        assert count_jobs(bench) == 1


class TestPages:
    def test_newest_first_and_every_job_once_though_others_come(self, bench: Bench) -> None:
        made = [bench.submit() for _ in range(5)]
        seen: list[str] = []
        after = None

        while True:
            with bench.db.read() as session:
                page = listing.page(session, limit=2, after=after)
            seen += [job.id for job in page.items]
            if not page.has_more:
                break
            after = page.next
            bench.submit()

        assert seen == made[::-1]
        assert page.next is None

    def test_only_those_of_a_state(self, bench: Bench) -> None:
        cancelled, _ = bench.submit(), bench.submit()
        bench.cancel(cancelled)

        with bench.db.read() as session:
            page = listing.page(session, Filter(state=JobState.CANCELLED), limit=10)

        assert [job.id for job in page.items] == [cancelled]

    @pytest.mark.parametrize("cursor", ["", "x", "am9i", "äöü", "am9i\n", "!!!!"])
    def test_a_foreign_cursor_is_refused(self, bench: Bench, cursor: str) -> None:
        with pytest.raises(InvalidCursor), bench.db.read() as session:
            listing.page(session, after=cursor)


class TestRequests:
    def test_a_queued_job_is_cancelled_at_once(self, bench: Bench) -> None:
        job_id = bench.submit()

        job = bench.cancel(job_id)

        assert job.state is JobState.CANCELLED
        assert job.error is not None
        assert job.error["code"] == "cancelled"
        assert job.result is None
        assert job.finished_at is not None
        assert bench.states(job_id) == ["queued", "cancelled"]

    def test_an_attempt_that_is_still_starting_ends_with_its_job(self, bench: Bench) -> None:
        job_id = bench.submit()
        worker = bench.claim()

        assert bench.cancel(job_id).state is JobState.CANCELLED
        assert worker.attempt.state is AttemptState.CANCELLED

    def test_a_running_job_is_cancelled_through_its_attempt(self, bench: Bench) -> None:
        worker = bench.running()
        job = bench.cancel(worker.claim.job_id)
        assert (job.state, job.requested) == (JobState.RUNNING, "cancel")

        assert worker.beat() == "cancel"
        job = worker.leave(Outcome.CANCELLED)

        assert (job.state, job.requested) == (JobState.CANCELLED, None)
        assert worker.attempt.state is AttemptState.CANCELLED

    def test_a_queued_job_is_paused_at_once_and_resumed(self, bench: Bench) -> None:
        job_id = bench.submit()

        assert bench.pause(job_id).state is JobState.PAUSED
        assert bench.resume(job_id).state is JobState.QUEUED
        assert bench.claim().claim.job_id == job_id

    def test_a_running_job_is_paused_through_its_attempt_and_goes_on_with_another(self, bench: Bench) -> None:
        worker = bench.running()
        job_id = worker.claim.job_id
        bench.pause(job_id)

        assert worker.beat() == "pause"
        assert worker.leave(Outcome.PAUSED).state is JobState.PAUSED
        bench.resume(job_id)

        assert bench.claim().claim.number == 2

    def test_a_pause_can_be_taken_back_before_it_happens(self, bench: Bench) -> None:
        worker = bench.running()
        bench.pause(worker.claim.job_id)

        bench.resume(worker.claim.job_id)

        assert worker.beat() == "continue"

    def test_a_pause_that_was_taken_back_too_late_is_a_short_rest(self, bench: Bench) -> None:
        worker = bench.running()
        bench.pause(worker.claim.job_id)
        assert worker.beat() == "pause"
        bench.resume(worker.claim.job_id)

        assert worker.leave(Outcome.PAUSED).state is JobState.QUEUED
        assert bench.claim().claim.job_id == worker.claim.job_id

    def test_a_cancel_overrules_a_pause_and_not_the_other_way_round(self, bench: Bench) -> None:
        worker = bench.running()
        bench.pause(worker.claim.job_id)
        bench.cancel(worker.claim.job_id)

        with pytest.raises(IllegalMove, match="being cancelled"):
            bench.pause(worker.claim.job_id)
        assert worker.beat() == "cancel"

    def test_asking_again_is_fine(self, bench: Bench) -> None:
        queued, worker = bench.submit(), bench.running(priority=1)
        running = worker.claim.job_id

        for ask, job_id in ((bench.pause, running), (bench.resume, running), (bench.cancel, running)):
            assert ask(job_id).version == ask(job_id).version
        for ask in (bench.pause, bench.resume, bench.cancel):
            assert ask(queued).version == ask(queued).version
        assert bench.states(queued) == ["queued", "paused", "queued", "cancelled"]

    def test_what_was_never_paused_can_not_be_resumed(self, bench: Bench) -> None:
        with pytest.raises(IllegalMove, match="not paused"):
            bench.resume(bench.submit())

    def test_an_ended_job_refuses_every_request_and_stays_as_it_is(self, bench: Bench) -> None:
        worker = bench.running()
        worker.succeed()
        before = bench.job(worker.claim.job_id)

        for ask in (bench.cancel, bench.pause, bench.resume):
            with pytest.raises(IllegalMove, match="it succeeded"):
                ask(before.id)

        assert bench.job(before.id).version == before.version


def test_the_table_refuses_an_end_without_exactly_one_of_result_and_error(bench: Bench) -> None:
    job_id = bench.submit()

    illegal: tuple[tuple[JobState, dict[str, object]], ...] = (
        (JobState.SUCCEEDED, {}),
        (JobState.FAILED, {"result": {}, "error": {}}),
        (JobState.QUEUED, {"error": {}}),
    )
    for state, values in illegal:
        with pytest.raises(IntegrityError), bench.db.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(state=state, **values))
