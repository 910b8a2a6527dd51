"""Kills what can be killed of running jobs, again and again: every job ends with the same bits as an undisturbed one.

`python -m benchmarks.soak --kills 60`: a real service with jobs of two runners, SIGKILL for a process each time a
new episode is on record, of the kinds in turn. It ends at the first job that differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from purlkit.processes import is_alive, start_ticks
from tests import ray_processes
from tests.acceptance.running import LONGER_JOB, RunningService, serving
from tests.waiting import wait_until

Kill = Callable[[RunningService], bool]

# A machine that is busy with other things takes minutes to bring a killed attempt's Ray back.
PATIENCE_SECONDS = 600.0


def _ray(kind: str) -> Kill:
    def kill(service: RunningService) -> bool:
        found = [pid for leader in service.attempt_pids() for pid in ray_processes.pids(kind, session=leader)]
        return bool(found) and _end(random.choice(found))

    return kill


def _driver(service: RunningService) -> bool:
    live = [pid for pid in service.attempt_pids() if Path(f"/proc/{pid}").exists()]
    return bool(live) and _end(live[-1])


def _child(*words: str) -> Kill:
    def kill(service: RunningService) -> bool:
        pid = service.child(*words)
        return pid is not None and _end(pid)

    return kill


def _end(pid: int) -> bool:
    """Waits for its end as well: what still dies would be there to be killed a second time."""
    started = start_ticks(pid)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    wait_until(f"{pid} is gone", lambda: started is None or not is_alive(pid, started), seconds=PATIENCE_SECONDS)
    return True


KINDS: dict[str, Kill] = {
    "runner": _ray(ray_processes.RUNNER),
    "driver": _driver,
    "raylet": _ray(ray_processes.RAYLET),
    "GCS": _ray(ray_processes.GCS),
    "API": _child("-m", "api"),
    "dispatcher": _child("-m", "services.dispatcher"),
}


@contextmanager
def a_service() -> Iterator[RunningService]:
    with tempfile.TemporaryDirectory(prefix="purl-soak-") as folder:
        yield from serving(Path(folder) / "data")


def outcome(service: RunningService, job: dict[str, Any]) -> Any:
    """All that may not depend on what was killed."""
    if job["state"] != "succeeded":
        sys.exit(f"{job['id']} ended {job['state']}: {job['error']}")
    episodes = [(e["index"], e["actions"], e["rewards"], e["accuracies"]) for e in service.episodes(job["id"])]
    candidates = [(c["method"], c["mask_sha256"], c["accuracy"]) for c in job["result"]["candidates"]]
    return episodes, candidates


def count(service: RunningService, job_id: str) -> int:
    """Of the job's episodes on record; while the API is coming back nothing is known."""
    try:
        return len(service.episodes(job_id))
    except Exception:
        return -1


def has_more_than(episodes: int, service: RunningService, job_id: str) -> bool:
    return count(service, job_id) > episodes


def kinds_in_turn() -> Iterator[str]:
    """Every kind once, in an order of chance, before any comes again: of 60 kills ten are of each."""
    while True:
        yield from random.sample(sorted(KINDS), len(KINDS))


def disturb(
    service: RunningService, job_id: str, kills: int, kinds: Iterator[str], seconds: dict[str, list[float]]
) -> int:
    """Up to so many kills in one job's search, each after the search has got further; how many there were."""
    episodes = LONGER_JOB["search"]["episodes"]
    for done in range(kills):
        before = count(service, job_id)
        if before >= episodes - 4:
            return done
        kind = next(kinds)
        wait_until(f"there is a {kind}", lambda kind=kind: KINDS[kind](service), seconds=PATIENCE_SECONDS)
        began = time.monotonic()
        further = partial(has_more_than, max(before, 0), service, job_id)
        wait_until("the next episode", further, seconds=PATIENCE_SECONDS)
        seconds[kind].append(time.monotonic() - began)
        print(f"  {kind:<10} killed at episode {before:>3}, the next one after {seconds[kind][-1]:5.1f} s", flush=True)
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of which kinds are killed")
    options = parser.parse_args()
    random.seed(options.seed)
    seconds: dict[str, list[float]] = defaultdict(list)
    done, jobs, kinds = 0, 0, kinds_in_turn()
    began = time.monotonic()
    with a_service() as service:
        one_runner = {**LONGER_JOB, "resources": {"env_runners": 1}}
        expected = outcome(service, service.ended(service.submit(one_runner)))
        while done < options.kills:
            job_id = service.submit(LONGER_JOB)
            wait_until("it searches", partial(has_more_than, 0, service, job_id), seconds=PATIENCE_SECONDS)
            done += disturb(service, job_id, options.kills - done, kinds, seconds)
            jobs += 1
            if outcome(service, service.ended(job_id)) != expected:
                sys.exit(f"{job_id} differs from the undisturbed job")
            print(f"job {jobs}: the same bits as undisturbed, {done} kills so far", flush=True)
    print(f"{done} kills in {jobs} jobs, {time.monotonic() - began:.0f} s: every job ended with the same bits")
    for kind, values in sorted(seconds.items()):
        print(
            f"  {kind:<10} {len(values):>3} kills, the next episode after {statistics.median(values):5.1f} s (median)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
