"""kill -9 at random over APIs, dispatchers, workers and the PostgreSQL server, while jobs go through the service."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import postgres
from tests.chaos.scale import is_long, tell, times
from tests.chaos.town import LEASE_SECONDS, Killing, a_town, background

# Of both databases together 2,000 jobs and 1,000 kills, or 100 and 50.
JOBS = times(1000, short=50)
KILLS = times(500, short=25)
# A recovery takes the lease and so much more at most. The short form runs beside other tests, on whatever machine.
SPARE_SECONDS = 5.0 if is_long() else 60.0


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[postgres.Server | None]:
    if request.param == "sqlite":
        yield None
        return
    with postgres.running_server() as server:
        yield server


@pytest.mark.parametrize("server", ["sqlite", "postgresql"], indirect=True)
def test_nothing_is_lost_and_nothing_has_two_results(
    request: pytest.FixtureRequest, tmp_path: Path, server: postgres.Server | None
) -> None:
    if server is None:
        url: str = request.getfixturevalue("sqlite_url")
    else:
        with closing(postgres.Databases(server.url)) as databases:
            url = databases.create()
    began = time.monotonic()
    with a_town(tmp_path / "town", url, server=server) as town:
        killing = Killing(town, KILLS)
        killer = background(killing.run)
        jobs = [town.client.submit(f"key {number}") for number in range(JOBS)]
        killer.join()
        for job_id in jobs:
            town.client.wait_for(job_id, "succeeded", "failed", "cancelled", seconds=300)

        found, log = town.violations(), town.log_tail()
        recoveries = killing.recoveries()
        last_word = max(op.ended for op in town.ops() if op.what == "finish")

    under_way = sum(at < last_word for _, _, at in killing.done)
    p99 = recoveries[round(0.99 * (len(recoveries) - 1))].seconds
    kinds = dict(Counter(kind for kind, _, _ in killing.done))
    tell(
        f"{'sqlite' if server is None else 'postgresql'}: {JOBS} jobs, {kinds} "
        f"kills in {time.monotonic() - began:.0f} s; recovery p50 {recoveries[len(recoveries) // 2].seconds:.1f} s, "
        f"p99 {p99:.1f} s of {len(recoveries)}"
    )
    tell(f"{under_way} of the kills came while jobs were under way")
    tell("the slowest: " + ", ".join(f"{one.kind} {one.seconds:.1f} s" for one in recoveries[:-6:-1]))
    assert found == [], log
    assert kinds.keys() == set(killing.kinds)
    assert under_way > KILLS / 2, "most kills met nothing"
    assert p99 <= LEASE_SECONDS + SPARE_SECONDS
