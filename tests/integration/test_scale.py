"""What the dispatcher asks again and again costs the same however many jobs wait. All of it: benchmarks/scale.py."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from services import attempts
from services.launch import RayJobsLauncher, ray_jobs
from services.testing import fill_queue
from tests.bench import Bench
from tests.fake_ray import fake_ray
from tests.statements import asked
from tests.waiting import wait_until

FEW, MANY = 200, 20_000

# What a claim may cost more among many than among few: an index of a hundred times the rows is a level deeper. Sorting
# all that wait, as it once was, costs eleven times as much on PostgreSQL and eighty times on SQLite.
MORE = 2


def effort(bench: Bench) -> int:
    """Of a claim, however fast the machine is: pages that PostgreSQL looks at, or steps of SQLite's machine."""
    with asked(bench.db) as statements:
        bench.claim()
    questions = [statement for statement in statements if statement.is_select]
    assert questions
    with bench.db.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            explained = [
                connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {said}", given).scalar_one()
                for said, given in questions
            ]
            plans = [plan["Plan"] for (plan,) in explained]
            return sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans)
        steps: list[None] = []
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: steps.append(None), 1)
        for said, given in questions:
            connection.exec_driver_sql(said, given).all()
        driver.set_progress_handler(None, 0)
        return len(steps)


def test_a_claim_costs_no_more_with_20_000_jobs_in_the_queue_than_with_200(bench: Bench) -> None:
    fill_queue(bench.db, FEW)
    with_few = effort(bench)

    fill_queue(bench.db, MANY)
    with_many = effort(bench)

    assert with_many <= MORE * with_few, f"{with_many} rather than {with_few}"


def test_looking_for_what_is_overdue_is_one_question_however_many_jobs_have_a_time_limit(bench: Bench) -> None:
    def look() -> list[str]:
        return bench.overdue(attempts.expired)

    late = bench.running(timeout_seconds=60)
    with asked(bench.db) as with_one:
        look()
    for _ in range(5):
        bench.running(timeout_seconds=60)
    bench.age(late, seconds=61)

    with asked(bench.db) as with_many:
        look()

    assert len(with_many) == len(with_one)
    assert look() == [late.claim.attempt_id]


def test_a_head_is_asked_no_more_often_for_a_hundred_attempts_and_yet_after_each_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_jobs, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(ray_jobs, "LOOKS_PER_SECOND", 40)
    with fake_ray("token", module="none") as head, closing(RayJobsLauncher(head.url, token="token")) as launcher:
        handles = [{"ray_job": f"job-{number}", "address": head.url} for number in range(100)]
        began = time.monotonic()

        def a_pass() -> bool:
            assert all(launcher.alive(handle) for handle in handles)
            return len(set(head.asked)) == len(handles)

        wait_until("every attempt was asked after", a_pass)

    seconds = time.monotonic() - began
    assert seconds > 1, "100 of them in three seconds of the clock, the first and the last of which may be short"
    assert len(head.asked) <= 40 * (seconds + 2)


@pytest.mark.long
def test_the_simulation_runs_at_a_small_size(tmp_path: Path) -> None:
    figure = tmp_path / "scale.svg"
    sizes = ["--queued", "200", "--attempts", "10", "--loads", "200", "400", "--seconds", "2", "--figure", str(figure)]
    command = [sys.executable, "-m", "benchmarks.scale", *sizes]

    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "A dispatcher claimed 10 of 200" in said
    levels = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith(("| 200 |", "| 400 |"))]
    assert [(level[0], level[6]) for level in levels] == [("200", "0"), ("400", "0")], "nothing failed"
    assert all(float(level[7]) > 0 and float(level[8]) > 0 for level in levels), "API and database have worked"
    ElementTree.fromstring(figure.read_text())
