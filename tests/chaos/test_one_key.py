"""Many requests at once with one Idempotency-Key: one job, and every one of them is told of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos import house
from tests.chaos.calls import Client, file_of
from tests.chaos.history import History, read
from tests.chaos.house import House, listen, wait_for_port
from tests.chaos.scale import is_long, tell, times

ROUNDS = times(100, short=3)  # on each database
# Whoever has to ask again costs as much as whoever is answered, and there are the more of them the more ask at once.
AT_ONCE = 50 if is_long() else 20


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_many_posts_with_one_key_one_makes_a_job(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """On PostgreSQL two processes answer them, which know nothing of each other's requests."""
    listening, url = listen()
    environ = {"PURL_DATA_DIR": str(tmp_path), "PURL_DATABASE_URL": request.getfixturevalue(f"{database}_url")}
    kept = House(tmp_path / "log")
    with closing(listening), closing(kept), closing(Client(url, History(file_of(tmp_path, "client")))) as client:
        for number in range(1 if database == "sqlite" else 2):
            kept.start(f"api {number}", house.api, environ, listening)
        wait_for_port(url)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            made = [set(pool.map(client.submit, [f"key {number}"] * AT_ONCE)) for number in range(ROUNDS)]
        there = client.all_jobs()

    answers = [op for op in read(tmp_path / "history") if op.what == "submit"]
    tell(f"{database}: {ROUNDS} rounds of {AT_ONCE}, {len(answers)} answers, {len(client.refused)} had to ask again")
    assert [len(jobs) for jobs in made] == [1] * ROUNDS
    assert sorted(there) == sorted(job_id for jobs in made for job_id in jobs)
    assert len(answers) == ROUNDS * AT_ONCE
