"""Workers whose clocks are an hour off keep their leases; what serves for long grows neither fat nor clumsy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos.scale import tell, times
from tests.chaos.town import a_town
from tests.waiting import wait_until

SOAK_SECONDS = times(1800, short=60)
LEASE_SECONDS = 6.0
# What a process may have gained between its warm state and the end.
MORE_MIB, MORE_DESCRIPTORS, MORE_THREADS = 16, 8, 4


def test_a_clock_that_is_an_hour_off_costs_no_lease(sqlite_url: str, tmp_path: Path) -> None:
    with a_town(
        tmp_path / "town", sqlite_url, worker="tests.chaos.shifted_worker", PURL_LEASE_SECONDS=f"{LEASE_SECONDS:g}"
    ) as town:
        jobs = [town.client.submit(f"off {number}") for number in range(3)]
        for job_id in jobs:
            town.client.wait_for(job_id, "running")
        until = time.monotonic() + 2 * LEASE_SECONDS

        wait_until("two leases are over", lambda: time.monotonic() > until)
        seen = [town.client.see(job_id) for job_id in jobs]
        for job_id in jobs:
            town.client.move(job_id, "cancel")
        for job_id in jobs:
            town.client.wait_for(job_id, "cancelled")
        found = town.violations()

    assert [(job["state"], len(job["attempts"])) for job in seen] == [("running", 1)] * len(jobs)
    assert found == []


def measured(pid: int) -> tuple[float, int, int]:
    """MiB, descriptors, threads."""
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, len(list((process / "fd").iterdir())), int(status["Threads"])


@pytest.mark.parametrize("database", ["sqlite", "postgresql"] if SOAK_SECONDS > 60 else ["sqlite"])
def test_a_soak_leaves_everything_flat(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> None:
    with a_town(tmp_path / "town", request.getfixturevalue(f"{database}_url")) as town:
        began, jobs = time.monotonic(), 0
        samples: list[dict[str, tuple[float, int, int]]] = []
        while (now := time.monotonic()) < began + SOAK_SECONDS:
            waiting = [town.client.submit(f"soak {jobs + more}") for more in range(4)]
            jobs += len(waiting)
            for job_id in waiting:
                assert town.client.wait_for(job_id, "succeeded", "failed")["state"] == "succeeded"
            if now > began + SOAK_SECONDS / 2:
                samples.append({name: measured(town.house.pid(name)) for name in town.names})
        found, deaths = town.violations(), town.house.deaths()

    first, last = samples[0], samples[-1]
    tell(f"{database}: {SOAK_SECONDS} s, {jobs} jobs; MiB, descriptors, threads halfway {first}, at the end {last}")
    assert found == []
    assert deaths == 0
    for name in first:
        grown = [after - before for before, after in zip(first[name], last[name], strict=True)]
        assert grown[0] < MORE_MIB, (name, samples)
        assert grown[1] < MORE_DESCRIPTORS, (name, samples)
        assert grown[2] < MORE_THREADS, (name, samples)
