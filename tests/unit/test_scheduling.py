"""The rule of the line, played through on a fake cluster: nothing is overbooked, little stands idle, nobody starves."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from math import inf

import pytest

from services.scheduling import Room, Running, Waiting, choose

CLUSTER = Room(attempts=8, cpus=16, gpus=4)
PASS_MS = 600


@dataclass
class Cluster:
    """Time goes from one event to the next; after each, as many jobs start as may."""

    pass_ms: float = PASS_MS
    total: Room = CLUSTER
    line: list[Waiting] = field(default_factory=list)
    running: dict[str, Running] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)
    bounds: dict[str, int] = field(default_factory=dict)  # by when the job must have started
    urgent: set[str] = field(default_factory=set)  # jobs of a higher priority than the others

    def play(self, arrivals: dict[int, list[Waiting]], seconds: dict[str, int]) -> None:
        events = set(arrivals) | {job.since + PASS_MS for jobs in arrivals.values() for job in jobs}
        while events or self.running:
            now = min([*events, *self.ends.values()])
            events.discard(now)
            for job_id in [job_id for job_id, end in self.ends.items() if end == now]:
                del self.running[job_id], self.ends[job_id]
            # The line as the database gives it: by priority, then by age.
            self.line = sorted([*self.line, *arrivals.get(now, [])], key=lambda job: job.job_id not in self.urgent)
            while job := choose(self.line, list(self.running.values()), self.total, now=now, pass_ms=self.pass_ms):
                self.line.remove(job)
                self.running[job.job_id] = Running(takes=job.needs, since=now)
                self.ends[job.job_id] = now + seconds[job.job_id]
                self.started[job.job_id] = now
                assert sum(one.takes.cpus for one in self.running.values()) <= self.total.cpus
                assert sum(one.takes.gpus for one in self.running.values()) <= self.total.gpus
                assert len(self.running) <= self.total.attempts
            self._promise(now)

    def _promise(self, now: int) -> None:
        """The first of the line that has waited long enough starts when those have ended that run at this moment."""
        possible = [job for job in self.line if self.total.holds(job.needs)]
        if possible and possible[0].since + self.pass_ms <= now:
            self.bounds.setdefault(possible[0].job_id, max([now, *self.ends.values()]))


def waiting(job_id: str, since: int = 0, **needs: float) -> Waiting:
    return Waiting(job_id=job_id, needs=Room(**{"cpus": 1.0, **needs}), since=since)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
def test_hundreds_of_jobs_all_start_none_later_than_promised(seed: int) -> None:
    chance = random.Random(seed)
    arrivals: dict[int, list[Waiting]] = {}
    seconds = {}
    for number in range(300):
        job_id, when = f"job-{number:03}", number * 20
        large = chance.random() < 0.15
        cpus = float(chance.randint(10, 16) if large else chance.randint(1, 4))
        gpus = chance.choice([0.0, 0.0, 0.5, 2.0, 4.0])
        arrivals.setdefault(when, []).append(waiting(job_id, when, cpus=cpus, gpus=gpus))
        seconds[job_id] = chance.randint(20, 400)
    cluster = Cluster()

    cluster.play(arrivals, seconds)

    assert len(cluster.started) == 300
    assert len(cluster.bounds) > 20, "the promise was put to the test"
    late = {job_id for job_id, bound in cluster.bounds.items() if cluster.started[job_id] > bound}
    assert late == set()


def a_stream_of_small_jobs(pass_ms: float) -> Cluster:
    """One that needs everything, and small ones without an end: there is always one more that would fit at once."""
    small = {when: [waiting(f"small-{when}", when, cpus=4.0)] for when in range(0, 20_000, 10)}
    small[5] = [waiting("large", 5, cpus=16.0)]
    seconds = dict.fromkeys([job.job_id for jobs in small.values() for job in jobs], 50)
    cluster = Cluster(pass_ms=pass_ms)
    cluster.play(small, seconds)
    return cluster


def test_a_large_job_waits_no_longer_than_it_may_be_passed_and_the_longest_attempt_runs() -> None:
    assert a_stream_of_small_jobs(PASS_MS).started["large"] <= 5 + PASS_MS + 50


def test_without_the_reservation_it_would_starve() -> None:
    """What the test above is worth: passed without an end, the large one is the last of all to start."""
    cluster = a_stream_of_small_jobs(inf)

    assert cluster.started["large"] >= max(cluster.started.values()) - 50


def a_sweep_and_more() -> Cluster:
    """Two hundred jobs of a sweep at once; then an urgent one, one that needs everything, and a small one."""
    sweep = [waiting(f"sweep-{number:03}", cpus=4.0) for number in range(200)]
    late = [waiting("urgent", 10, cpus=8.0), waiting("large", 10, cpus=16.0), waiting("small", 10, cpus=2.0)]
    seconds = dict.fromkeys([job.job_id for job in [*sweep, *late]], 50)
    cluster = Cluster(urgent={"urgent"})
    cluster.play({0: sweep, 10: late}, seconds)
    return cluster


def test_a_sweep_holds_up_nothing_that_is_more_urgent() -> None:
    cluster = a_sweep_and_more()

    assert cluster.started["urgent"] == 50, "as soon as the first of the sweep have ended"
    same_age = [start for job_id, start in cluster.started.items() if job_id.startswith("sweep")]
    assert same_age == sorted(same_age), "of one priority the older ones come first"


def test_behind_a_sweep_a_small_job_uses_what_is_left_over_and_a_large_one_has_its_turn() -> None:
    """200 jobs, four at a time, for 50 each: 2,500. After 600 of waiting nobody passes the large one any more."""
    cluster = a_sweep_and_more()

    assert cluster.started["large"] >= cluster.started["sweep-199"], "they were all there before it"
    assert cluster.started["large"] <= cluster.bounds.get("large", 2600 + 50)
    assert len(cluster.started) == 203


def test_while_a_large_one_waits_small_ones_use_what_is_free() -> None:
    running = [Running(takes=Room(cpus=10), since=0)]
    line = [waiting("large", cpus=16.0), waiting("medium", cpus=8.0), waiting("small", cpus=6.0)]

    chosen = choose(line, running, CLUSTER, now=PASS_MS - 1, pass_ms=PASS_MS)

    assert chosen is line[2]


def test_even_then_others_may_start_where_they_leave_its_room_free() -> None:
    """16 CPUs: 10 taken for now, 12 kept for the large one. 4 are over whatever happens."""
    running = [Running(takes=Room(cpus=10), since=0)]
    large, small = waiting("large", cpus=12.0), waiting("small", cpus=4.0)

    assert choose([large, small], running, CLUSTER, now=PASS_MS, pass_ms=PASS_MS) is small
    later = [*running, Running(takes=small.needs, since=PASS_MS + 1)]
    assert choose([large, waiting("next", cpus=1.0)], later, CLUSTER, now=PASS_MS + 2, pass_ms=PASS_MS) is None


def test_who_waits_for_gpus_does_not_keep_cpus_from_those_who_need_none() -> None:
    running = [Running(takes=Room(cpus=1, gpus=4), since=0)]
    line = [waiting("on a GPU", cpus=1.0, gpus=1.0), *(waiting(f"on CPUs {number}", cpus=7.0) for number in range(3))]

    first = choose(line, running, CLUSTER, now=10 * PASS_MS, pass_ms=PASS_MS)

    assert first is line[1]


def test_shares_of_a_gpu_fill_it_to_the_brim() -> None:
    tenths = [Running(takes=Room(cpus=1, gpus=0.1), since=0) for _ in range(9)]
    one_gpu = Room(attempts=100, cpus=100, gpus=1)

    assert choose([waiting("last", gpus=0.1)], tenths, one_gpu, now=0, pass_ms=PASS_MS) is not None
    assert choose([waiting("too much", gpus=0.11)], tenths, one_gpu, now=0, pass_ms=PASS_MS) is None
