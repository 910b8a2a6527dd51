"""Several processes and threads on one database: each waits for the other, and nothing happens twice."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sqlalchemy import select

from purlkit.spec import JobSpec, SweepSpec
from services import attempts, events, jobs, moves, sweeps
from services.database import Database
from services.errors import IllegalMove
from services.settings import Settings
from services.states import JobState
from services.tables import Job, Sweep
from services.testing import a_spec
from tests.bench import Bench
from tests.chaos.house import PRELOADED

PROCESSES = 4
START_SECONDS = 300.0  # of all of them beside each other, on a busy machine
THREADS = 2
JOBS = 20


def claim_all(settings: Settings) -> list[str]:
    """Claims until nothing is left."""
    db = Database.open(settings.database_url)
    claimed: list[str] = []
    while True:
        with db.write() as session:
            claim = attempts.claim(session, settings)
        if claim is None:
            db.close()
            return claimed
        claimed.append(claim.job_id)


def claim_in_threads(settings: Settings, start: Barrier, answers: multiprocessing.Queue[list[str]]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        start.wait()
        for claimed in [pool.submit(claim_all, settings) for _ in range(THREADS)]:
            answers.put(claimed.result())


def test_each_job_is_claimed_once_by_many_processes(bench: Bench) -> None:
    submitted = {bench.submit() for _ in range(JOBS)}
    # One process has imported all that they need before they leave it: each would take a second to do so. All tests
    # have it together, and whoever starts it says what for.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, __name__])
    start, answers = context.Barrier(PROCESSES), context.Queue()
    claimers = [
        context.Process(target=claim_in_threads, args=(bench.settings, start, answers)) for _ in range(PROCESSES)
    ]

    for process in claimers:
        process.start()
    claimed = [job_id for _ in range(PROCESSES * THREADS) for job_id in answers.get(timeout=START_SECONDS)]
    for process in claimers:
        process.join()

    assert Counter(claimed) == Counter(submitted)


def a_sweep_of_two(bench: Bench) -> tuple[str, list[str]]:
    body = {"base": a_spec().model_dump(mode="json"), "grid": {"seed": [0, 1]}}
    spec = SweepSpec.model_validate(body)
    with bench.db.write() as session:
        points = [(point, JobSpec.model_validate_json(json.dumps(point.body))) for point in spec.points()]
        made = sweeps.submit(session, spec, points).sweep
        sweeps.cancel(session, made.id)
        members = session.scalars(select(Job.id).where(Job.sweep_id == made.id))
        return made.id, list(members)


def test_a_sweep_goes_when_its_last_two_jobs_are_deleted_at_once(bench: Bench) -> None:
    for _ in range(10):
        sweep_id, members = a_sweep_of_two(bench)
        start = Barrier(2)

        def delete(job_id: str, start: Barrier = start) -> None:
            start.wait()
            with bench.db.write() as session:
                jobs.delete(session, job_id)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(delete, members))

        with bench.db.read() as session:
            assert session.get(Sweep, sweep_id) is None


def test_no_more_are_claimed_at_once_than_the_settings_allow(bench: Bench) -> None:
    three = Settings.from_environ({**bench.environ, "PURL_MAX_RUNNING": "3"})
    for _ in range(8):
        bench.submit()
    start = Barrier(8)

    def claim(_: int) -> bool:
        start.wait()
        with bench.db.write() as session:
            return attempts.claim(session, three) is not None

    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(claim, range(8)))

    assert claimed.count(True) == 3


def test_a_claim_passes_over_a_job_that_somebody_is_just_changing(bench: Bench) -> None:
    """On SQLite there is one writer at a time, so nobody ever is."""
    if bench.db.engine.dialect.name == "postgresql":
        first, second = bench.submit(), bench.submit()

        with bench.db.write() as session:
            moves.lock(session, first)

            assert bench.claim().claim.job_id == second


def test_events_of_many_writers_have_no_gaps(bench: Bench) -> None:
    job_id = bench.submit()

    def write(number: int) -> None:
        with bench.db.write() as session:
            events.append(session, job_id, "note", {"from": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))

    assert [event.seq for event in bench.events(job_id)] == list(range(1, 42))


def test_of_cancel_and_finish_at_once_one_is_the_end(bench: Bench) -> None:
    """Whichever comes first, the job ends once, and as the one that was accepted said."""
    for _ in range(10):
        worker = bench.running()
        start = Barrier(2)

        def cancel(job_id: str = worker.claim.job_id, start: Barrier = start) -> bool:
            start.wait()
            try:
                bench.cancel(job_id)
            except IllegalMove:
                return False
            return True

        with ThreadPoolExecutor(1) as pool:
            accepted = pool.submit(cancel)
            start.wait()
            worker.succeed()

        ended = JobState.CANCELLED if accepted.result() else JobState.SUCCEEDED
        assert bench.states(worker.claim.job_id) == ["queued", "running", ended]
