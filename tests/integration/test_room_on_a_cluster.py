"""Where the settings don't say how much there is, the cluster is asked: nothing is started that has no room there."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from purlkit.results import Outcome
from services import attempts, outlook
from services.launch import Capacity
from services.settings import Settings
from services.states import JobState
from services.tables import Job
from services.testing import FakeLauncher
from tests.bench import Bench
from tests.scene import Scene, handle_of

FOUR_CPUS = Capacity(cpus=4, gpus=0)
MANY = {"PURL_MAX_RUNNING": "10"}


def reserving(cpus: float, gpus: float = 0.0) -> dict[str, Any]:
    return {"env_runners": 1, "cpus_per_runner": cpus, "gpus_per_runner": gpus}


@pytest.fixture
def cluster() -> FakeLauncher:
    return FakeLauncher(has=FOUR_CPUS)


def started(cluster: FakeLauncher) -> list[str]:
    return [launch.name.partition("-")[0] for launch in cluster.launches]


def test_attempts_together_reserve_no_more_than_the_nodes_have(bench: Bench, cluster: FakeLauncher) -> None:
    first, second, third = (bench.submit(resources=reserving(2)) for _ in range(3))

    Scene(bench, cluster, **MANY).dispatcher.tick()

    assert started(cluster) == [first, second]
    assert bench.why(third) == "next in the queue; it reserves 2 CPUS and 0 of 4 are free"


def test_what_does_not_fit_says_so_holds_nobody_up_and_starts_when_nodes_join(
    bench: Bench, cluster: FakeLauncher
) -> None:
    large, with_gpu, small = (
        bench.submit(resources=resources) for resources in (reserving(8), reserving(1, gpus=1), reserving(2))
    )

    Scene(bench, cluster, **MANY).dispatcher.tick()

    assert started(cluster) == [small]
    assert bench.why(large) == "it reserves 8 CPUS and there are 4 in all (PURL_CPUS, or what the Ray cluster has)"
    assert bench.why(with_gpu) == "it reserves 1 GPUS and there are 0 in all (PURL_GPUS, or what the Ray cluster has)"

    cluster.has = Capacity(cpus=16, gpus=1)
    Scene(bench, cluster, **MANY).dispatcher.tick()

    assert started(cluster) == [small, large, with_gpu]


@pytest.mark.parametrize(("has", "at_once"), [(FOUR_CPUS, 3), (None, 3)], ids=["told", "silent"])
def test_what_the_settings_say_is_not_asked(bench: Bench, has: Capacity | None, at_once: int) -> None:
    """A cluster that grows on demand has less now than it may have."""
    launcher = FakeLauncher(has=has)
    for _ in range(4):
        bench.submit(resources=reserving(2))

    Scene(bench, launcher, **MANY, PURL_CPUS="6").dispatcher.tick()

    assert len(launcher.launches) == at_once


def test_a_job_that_has_begun_makes_do_with_what_is_left_of_the_nodes(bench: Bench, cluster: FakeLauncher) -> None:
    cluster.has = Capacity(cpus=8, gpus=0)
    scene = Scene(bench, cluster, **MANY)
    job_id = bench.submit(resources=reserving(8))
    scene.dispatcher.tick()
    worker = scene.latest()
    worker.save("search", b"an episode")

    cluster.has = FOUR_CPUS
    cluster.die(handle_of(worker))
    later = Scene(bench, cluster, **MANY)
    later.tick_until("its next attempt has begun", lambda: len(cluster.launches) == 2)

    assert started(cluster) == [job_id, job_id]
    later.latest().beat()
    assert bench.job(job_id).state is JobState.RUNNING


def back_in_the_queue(bench: Bench, cpus: int) -> str:
    """A job whose first attempt has drained."""
    worker = bench.running(resources=reserving(cpus))
    worker.leave(Outcome.DRAINED)
    return worker.claim.job_id


def test_what_it_waits_for_then_is_what_is_left_and_others_are_told_that_it_is_ahead(bench: Bench) -> None:
    shrunk, (second, third) = back_in_the_queue(bench, 8), [bench.submit(resources=reserving(2)) for _ in range(2)]
    new_and_large = bench.submit(resources=reserving(8))

    bench.announce(**MANY, found=FOUR_CPUS)

    assert [bench.place(job_id) for job_id in (shrunk, second, third, new_and_large)] == [1, 2, 3, None]
    assert bench.why(shrunk) == "next in the queue"
    assert bench.why(third) == "waiting for 2 jobs ahead"
    with bench.db.read() as session:
        together = outlook.of(session, list(session.scalars(select(Job))), {})
    assert together == {job_id: bench.outlook(job_id) for job_id in (shrunk, second, third, new_and_large)}
    with bench.db.write() as session:
        settings = Settings.from_environ({**bench.environ, **MANY})
        claimed = attempts.claim(session, settings, has=FOUR_CPUS)
    assert claimed is not None
    assert claimed.job_id == shrunk
    assert [bench.place(job_id) for job_id in (second, third)] == [1, 2]


def test_a_limit_that_the_settings_lower_holds_for_what_has_begun_as_well(bench: Bench) -> None:
    """It is the operator's word, and no cluster that has shrunk."""
    begun, behind = back_in_the_queue(bench, 8), bench.submit(resources=reserving(2))

    bench.announce(**MANY, PURL_CPUS="4", found=Capacity(cpus=8, gpus=0))

    assert bench.why(begun) == "it reserves 8 CPUS and there are 4 in all (PURL_CPUS, or what the Ray cluster has)"
    assert (bench.place(begun), bench.place(behind)) == (None, 1)
