"""GPU nodes from zero, by Ray's own autoscaler: its nodes are raylets of this machine that say they have a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from purlkit.growth import Group
from services.launch import RayJobsLauncher
from tests.ray_head import TOKEN, RayHead, ray_head
from tests.ray_yard import Yard
from tests.waiting import wait_until

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
GROWS_TO = (Group(nodes=2, cpus=1, gpus=1),)

# What an attempt does before its search.
WAITS_FOR_ROOM = """
import ray
from purlkit.spec import Resources
from workers import capacity, cluster

cluster.quiet()
grows = capacity.Growth.told({"PURL_RAY_GROWS_TO": "2x1+1", "PURL_GROW_SECONDS": "120"})
two = Resources(env_runners=2, cpus_per_runner=1, gpus_per_runner=1)
capacity.check(two, ray_address="auto", at_least=2, grows=grows)
with cluster.connected("auto"):
    print("before:", [node.gpus for node in capacity.whole_cluster()], flush=True)
    capacity.wait_for_room(two, grows=grows, on_wait=lambda reason: print(reason, flush=True))
    print("after:", max(node.gpus for node in capacity.whole_cluster()), flush=True)
"""


@pytest.fixture
def head() -> Iterator[RayHead]:
    with ray_head(grows_by={"CPU": 1, "GPU": 1}, PYTHONPATH=str(ROOT)) as head:
        yield head


def test_a_job_brings_the_gpu_node_that_it_waits_for(head: RayHead, tmp_path: Path) -> None:
    with (
        closing(RayJobsLauncher(head.address, token=TOKEN, grows_to=GROWS_TO)) as launcher,
        closing(RayJobsLauncher(head.address, token=TOKEN)) as plain,
    ):
        found = wait_until("the head knows of itself", plain.capacity)
        grown = wait_until("and of what may come", launcher.capacity)
        assert [(has.cpus, has.gpus) for has in (found, grown)] == [(2, 0), (2, 2)]
        yard = Yard(launcher, tmp_path, "waits")

        handle = yard.launch(WAITS_FOR_ROOM)
        wait_until("it has found room", lambda: not launcher.alive(handle), seconds=180)
        said = yard.end(handle)

        assert "before: [0.0]" in said, said
        assert "no node has 1 CPUs and 1 GPUs yet: waiting for the cluster to bring one" in said
        assert "after: 1.0" in said
