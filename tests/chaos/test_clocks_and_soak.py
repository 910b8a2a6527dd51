"""What serves for long grows neither fat nor clumsy; and workers whose clocks are an hour off keep their leases."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from services.testing import migrated_file
from tests.chaos.failpoints import ROOT
from tests.chaos.scale import is_long, tell, times
from tests.chaos.town import Town, a_town
from tests.waiting import wait_until

SOAK_SECONDS = times(1800, short=50)
# The long form takes jobs all that time. After so many the short one only waits until its time is over, which costs
# nothing.
MOST_JOBS = 10_000_000 if is_long() else 24
# Workers whose clocks are off, one of them ahead. Their leases would run out within the soak, in the long one many
# times.
OFF = 3 if is_long() else 2
# As long as it takes such a worker to start on a machine that is busy with other tests, and longer than it is kept
# waiting there.
OFF_LEASE = {"PURL_LEASE_SECONDS": "15" if is_long() else "40", "PURL_POLL_SECONDS": "0.5"}
# What a process may have gained between its warm state and the end. As many threads as ask at once, each with a
# connection of two files, are kept for good: on a busy machine they may come late, and what leaks with each request
# gains more than that.
MORE_MIB, MORE_DESCRIPTORS, MORE_THREADS = (16, 8, 4) if is_long() else (16, 16, 8)

WALL_CLOCK = re.compile(r"time\.time(_ns)?\(|from time import|datetime\.(now|utcnow|today)|(local|gm)time\(|strftime\(")
AHEAD = "the clock of the first is ahead"  # written by the worker whose is

Measured = tuple[float, int, int]  # MiB, descriptors, threads


def measured(pid: int) -> Measured:
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, len(list((process / "fd").iterdir())), int(status["Threads"])


def a_few_more(town: Town, before: int) -> int:
    """Jobs that have gone through."""
    waiting = [town.client.submit(f"soak {before + more}") for more in range(4)]
    for job_id in waiting:
        assert town.client.wait_for(job_id, "succeeded", "failed")["state"] == "succeeded"
    return len(waiting)


def attempts_of(town: Town, jobs: list[str]) -> list[int]:
    """How many each of them has had that are all running."""
    seen = [town.client.see(job_id) for job_id in jobs]
    assert {job["state"] for job in seen} == {"running"}, seen
    return [len(job["attempts"]) for job in seen]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"] if is_long() else ["sqlite"])
def test_a_soak_leaves_everything_flat_and_clocks_that_are_off_cost_no_lease(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """One service takes jobs all the time. Another, beside it, has workers that are an hour ahead or an hour behind."""
    beside = tmp_path / "beside.db"
    beside.write_bytes(migrated_file())
    with (
        a_town(tmp_path / "off", f"sqlite:///{beside}", worker="tests.chaos.shifted_worker", **OFF_LEASE) as off,
        a_town(tmp_path / "town", request.getfixturevalue(f"{database}_url")) as town,
    ):
        beating = [off.client.submit(f"off {number}") for number in range(OFF)]
        for job_id in beating:
            off.client.wait_for(job_id, "running")
        before = attempts_of(off, beating)  # one each, but where a busy machine started one too late
        began, jobs = time.monotonic(), 0
        samples: list[dict[str, Measured]] = []
        # On a machine so busy that one round fills the second half there would be nothing to compare the end with.
        while jobs < MOST_JOBS and ((now := time.monotonic()) < began + SOAK_SECONDS or len(samples) < 2):
            jobs += a_few_more(town, jobs)
            assert attempts_of(off, beating) == before
            if now > began + SOAK_SECONDS / 2 or jobs >= MOST_JOBS / 2:
                samples.append({name: measured(town.house.pid(name)) for name in town.names})
        wait_until("its time is over", lambda: time.monotonic() > began + SOAK_SECONDS, seconds=2 * SOAK_SECONDS)
        assert attempts_of(off, beating) == before

        for job_id in beating:
            off.client.move(job_id, "cancel")
        for job_id in beating:
            off.client.wait_for(job_id, "cancelled")
        found, deaths = town.violations() + off.violations(), town.house.deaths() + off.house.deaths()

        assert (off.datasets / AHEAD).exists(), "no clock was off"

    first, last = samples[0], samples[-1]
    tell(f"{database}: {SOAK_SECONDS} s, {jobs} jobs; MiB, descriptors, threads halfway {first}, at the end {last}")
    assert found == []
    assert deaths == 0
    for name in first:
        grown = [after - before for before, after in zip(first[name], last[name], strict=True)]
        assert grown[0] < MORE_MIB, (name, samples)
        assert grown[1] < MORE_DESCRIPTORS, (name, samples)
        assert grown[2] < MORE_THREADS, (name, samples)


def test_nothing_that_runs_elsewhere_reads_a_clock_that_may_be_off() -> None:
    """Which is why an hour costs nothing; the workers above would not notice a clock that is read in another way."""
    files = [path for package in ("workers", "purlkit") for path in (ROOT / package).rglob("*.py")]
    readers = [path.relative_to(ROOT).as_posix() for path in files if WALL_CLOCK.search(path.read_text())]
    # Which of the files that a machine keeps was used last: by its own clock alone.
    assert readers == ["purlkit/storage/filecache.py"]
