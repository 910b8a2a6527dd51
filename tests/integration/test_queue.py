"""The line of waiting jobs on a real database: who is next, and whether the others are told the truth."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from purlkit.results import Outcome
from services import attempts, outlook, scheduling
from services.settings import Settings
from services.states import AttemptState
from services.tables import DispatcherRow, Job
from services.testing import FakeLauncher, FakeWorker
from tests.bench import Bench
from tests.scene import Scene, handle_of
from tests.statements import asked

FOUR_CPUS = {"PURL_MAX_RUNNING": "10", "PURL_CPUS": "4"}


def reserving(cpus: int) -> dict[str, int]:
    return {"env_runners": 1, "cpus_per_runner": cpus}


def claim(bench: Bench, **environ: str) -> FakeWorker | None:
    """What a dispatcher with these settings would start."""
    with bench.db.write() as session:
        claim = attempts.claim(session, Settings.from_environ({**bench.environ, **environ}))
    return claim and FakeWorker(bench.db, claim)


def age_line(bench: Bench, job_id: str, seconds: int) -> None:
    with bench.db.write() as session:
        earlier = update(Job).where(Job.id == job_id).values(not_before=Job.not_before - seconds * 1000)
        session.execute(earlier)


def test_priority_goes_before_age(bench: Bench) -> None:
    old, new, urgent = bench.submit(), bench.submit(), bench.submit(priority=1)

    assert [bench.place(job_id) for job_id in (urgent, old, new)] == [1, 2, 3]
    assert [bench.claim().claim.job_id for _ in range(3)] == [urgent, old, new]


def test_a_waiting_job_says_why(bench: Bench) -> None:
    bench.announce()
    first, second, third = bench.submit(), bench.submit(), bench.submit()

    assert bench.why(first) == "next in the queue"
    assert bench.why(second) == "waiting for 1 job ahead"
    assert bench.why(third) == "waiting for 2 jobs ahead"
    worker = bench.claim()
    assert bench.why(first) == "attempt 1 is starting"
    assert bench.why(second) == "next in the queue; 1 job running"
    worker.beat()
    assert bench.why(first) is None
    bench.pause(first)
    assert bench.why(first) == "pause was asked for: waiting for the attempt to answer, or its lease to end"
    bench.pause(second)
    assert bench.why(second) == "paused: resume it to go on"
    worker.succeed()
    assert bench.why(first) is None


def test_a_page_of_jobs_is_looked_up_together_and_each_is_told_what_it_is_told_alone(bench: Bench) -> None:
    bench.announce(**FOUR_CPUS)
    for number in range(30):
        bench.submit(priority=number % 3, resources=reserving(5 if number % 7 == 0 else 1))
    starting = claim(bench, **FOUR_CPUS)
    assert starting is not None
    with bench.db.read() as session:
        page = [job for job in session.scalars(select(Job)) if job.id != starting.claim.job_id]

    with asked(bench.db) as statements, bench.db.read() as session:
        together = outlook.of(session, page, {})

    assert 0 < len(statements) < 10
    assert together == {job.id: bench.outlook(job.id) for job in page}
    assert sorted(one.position for one in together.values() if one.position) == list(range(1, 25))


def test_a_job_that_waits_for_its_next_try_says_for_how_long_and_stands_in_nobodys_way(bench: Bench) -> None:
    bench.announce()
    worker = bench.running()
    bench.rescue(worker, reason="its machine went away")
    behind = bench.submit()

    waiting = worker.claim.job_id
    assert bench.why(waiting) in [f"retry in {seconds} s after: its machine went away" for seconds in (1, 2)]
    assert (bench.place(waiting), bench.place(behind)) == (None, 1)
    assert bench.why(behind) == "next in the queue"


def test_without_a_dispatcher_the_queue_says_so(bench: Bench) -> None:
    job_id = bench.submit()
    assert bench.why(job_id) == "no dispatcher is running: start the service, or look at why it stopped"

    bench.announce()
    assert bench.why(job_id) == "next in the queue"

    with bench.db.write() as session:
        gone = DispatcherRow.seen_at - scheduling.PRESENT_MS
        session.execute(update(DispatcherRow).values(seen_at=gone))
    assert bench.why(job_id) == "no dispatcher is running: start the service, or look at why it stopped"


def test_a_dispatcher_is_there_from_its_first_pass_until_it_stops(bench: Bench) -> None:
    scene = Scene(bench, FakeLauncher(), PURL_DRAIN_SECONDS="0.01", PURL_MAX_RUNNING="1")
    worker = scene.start()
    behind = bench.submit()
    assert bench.why(behind) == "next in the queue; 1 job running"

    scene.drain()

    assert worker.attempt.state is AttemptState.DRAINED
    assert bench.why(behind) == "no dispatcher is running: start the service, or look at why it stopped"


class TestRoom:
    def test_attempts_together_reserve_no_more_than_there_is(self, bench: Bench) -> None:
        jobs = [bench.submit(resources=reserving(2)) for _ in range(3)]

        started = [claim(bench, **FOUR_CPUS) for _ in range(3)]

        assert [one and one.claim.job_id for one in started] == [jobs[0], jobs[1], None]

    def test_processes_of_an_ended_attempt_still_take_their_room(self, bench: Bench) -> None:
        scene = Scene(bench, FakeLauncher(), **FOUR_CPUS)
        worker = scene.start()
        large = bench.submit(resources=reserving(4))

        worker.succeed()
        scene.dispatcher.tick()
        assert bench.why(large) == "next in the queue; it reserves 4 CPUS and 2 of 4 are free"

        scene.launcher.die(handle_of(worker))
        scene.dispatcher.tick()
        assert scene.latest().claim.job_id == large

    def test_a_small_job_may_pass_a_large_one_for_a_while_and_not_for_ever(self, bench: Bench) -> None:
        """Four CPUs, two of them taken: the large one needs all four."""
        bench.announce(**FOUR_CPUS)
        running = bench.running(resources=reserving(2))
        large, small, later = (bench.submit(resources=reserving(cpus)) for cpus in (4, 1, 1))

        assert bench.why(large) == "next in the queue; it reserves 4 CPUS and 2 of 4 are free"
        assert bench.why(small) == "waiting for 1 job ahead"
        passed = claim(bench, **FOUR_CPUS)
        assert passed is not None
        assert passed.claim.job_id == small

        age_line(bench, large, seconds=601)
        assert claim(bench, **FOUR_CPUS) is None, "one CPU is free, and kept"
        assert (bench.place(large), bench.place(later)) == (1, 2)
        running.succeed()
        passed.succeed()
        assert [one and one.claim.job_id for one in (claim(bench, **FOUR_CPUS), claim(bench, **FOUR_CPUS))] == [
            large,
            None,
        ]

    def test_a_job_that_can_never_start_holds_nobody_up_and_says_so(self, bench: Bench) -> None:
        bench.announce(**FOUR_CPUS)
        impossible = bench.submit(resources=reserving(5), priority=9)
        behind = bench.submit()

        assert (
            bench.why(impossible)
            == "it reserves 5 CPUS and there are 4 in all (PURL_CPUS, or what the Ray cluster has)"
        )
        assert (bench.place(impossible), bench.place(behind)) == (None, 1)
        started = claim(bench, **FOUR_CPUS)
        assert started is not None
        assert started.claim.job_id == behind

    def test_gpus_are_counted_beside_cpus(self, bench: Bench) -> None:
        settings = {**FOUR_CPUS, "PURL_CPUS": "100", "PURL_GPUS": "1"}
        halves = [bench.submit(resources={"env_runners": 1, "gpus_per_runner": 0.5}) for _ in range(3)]
        without = bench.submit()

        started = [claim(bench, **settings) for _ in range(4)]

        assert [one and one.claim.job_id for one in started] == [halves[0], halves[1], without, None]


@pytest.mark.parametrize("end", [Outcome.DRAINED, Outcome.PAUSED])
def test_a_job_that_comes_back_keeps_its_place(bench: Bench, end: Outcome) -> None:
    worker = bench.running()
    younger = bench.submit()
    job_id = worker.claim.job_id
    if end is Outcome.PAUSED:
        bench.pause(job_id)

    worker.leave(end)
    if end is Outcome.PAUSED:
        assert bench.place(younger) == 1
        bench.resume(job_id)

    assert (bench.place(job_id), bench.place(younger)) == (1, 2)
