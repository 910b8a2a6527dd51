"""Whether a job's runners fit: onto the machine or the cluster at all, and into what is free of it now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from purlkit import growth
from purlkit.errors import NodesDidNotCome, NotEnoughResources
from purlkit.spec import Resources
from workers import cluster

LOOK_SECONDS = 2.0
GROW_SECONDS = 1800.0  # where the service does not say
# Ray counts in ten-thousandths.
GRAIN = 1e-4


@dataclass(frozen=True)
class Node:
    cpus: float
    gpus: float

    def holds(self, resources: Resources) -> int:
        """How many of the job's runners. Whoever wants a share of a GPU must find it on one GPU."""
        cpus, gpus = resources.cpus_per_runner, resources.gpus_per_runner
        by_cpu = int((self.cpus + GRAIN / 2) / cpus)
        if gpus == 0:
            return by_cpu
        by_gpu = int(1 / gpus + GRAIN / 2) * int(self.gpus + GRAIN / 2) if gpus < 1 else int(self.gpus / gpus)
        return min(by_cpu, by_gpu)


def this_machine() -> list[Node]:
    """As a Ray of our own will count it, without starting one."""
    import torch
    from ray._private.utils import get_num_cpus  # the one that knows the limits of a container too

    return [Node(get_num_cpus(), torch.cuda.device_count())]


@dataclass(frozen=True)
class Growth:
    """The nodes that the cluster may have once it was asked for them, and how long that may take."""

    nodes: tuple[Node, ...] = ()
    seconds: float = 0.0

    @classmethod
    def told(cls, environ: Mapping[str, str]) -> Growth:
        groups = growth.parse(environ.get("PURL_RAY_GROWS_TO", ""))
        nodes = tuple(Node(group.cpus, group.gpus) for group in groups for _ in range(group.nodes))
        return cls(nodes, float(environ.get("PURL_GROW_SECONDS") or GROW_SECONDS))

    def at_most(self, nodes: Sequence[Node], resources: Resources) -> Sequence[Node]:
        """The cluster as it is, or as it may be if it then holds more of the job."""

        def room(some: Sequence[Node]) -> int:
            return sum(node.holds(resources) for node in some)

        return self.nodes if self.nodes and room(self.nodes) >= room(nodes) else nodes


AS_IT_IS = Growth()


def whole_cluster() -> list[Node]:
    """What the nodes of the cluster that we are connected to have in all."""
    import ray

    return [_node(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def free_now() -> list[Node]:
    """What is left of the nodes while others use them."""
    from ray._private.state import available_resources_per_node

    return [_node(resources) for resources in available_resources_per_node().values()]


def _node(resources: dict[str, float]) -> Node:
    return Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0))


def check(
    resources: Resources,
    *,
    ray_address: str,
    at_least: int,
    grows: Growth = AS_IT_IS,
    on_wait: Callable[[], None] = lambda: None,
) -> None:
    """Refuses a job of which fewer runners can ever fit, before anything is built for it."""
    if not ray_address:
        refuse_what_never_fits(resources, this_machine(), at_least=at_least, where="this machine")
        return
    with cluster.connected(ray_address, on_wait=on_wait):
        nodes = grows.at_most(whole_cluster(), resources)
        refuse_what_never_fits(resources, nodes, at_least=at_least, where="the cluster")


def refuse_what_never_fits(resources: Resources, nodes: Sequence[Node], *, at_least: int, where: str) -> None:
    """Raises NotEnoughResources that blames the one field and says what would fit."""
    most_cpus = max((node.cpus for node in nodes), default=0.0)
    most_gpus = max((node.gpus for node in nodes), default=0.0)
    if resources.cpus_per_runner > most_cpus:
        raise NotEnoughResources(
            f"no node of {where} has {resources.cpus_per_runner:g} CPUs",
            at="/resources/cpus_per_runner",
            remedy=f"ask for at most {most_cpus:g} a runner",
        )
    if resources.gpus_per_runner > most_gpus:
        raise NotEnoughResources(
            f"no node of {where} has {resources.gpus_per_runner:g} GPUs",
            at="/resources/gpus_per_runner",
            remedy=f"ask for at most {most_gpus:g} a runner" if most_gpus else "ask for 0: there is none",
        )
    room = sum(node.holds(resources) for node in nodes)
    if room == 0:  # each is there, on different nodes
        raise NotEnoughResources(
            f"no node of {where} has {resources.cpus_per_runner:g} CPUs together with "
            f"{resources.gpus_per_runner:g} GPUs",
            at="/resources/cpus_per_runner",
            remedy=f"ask for at most {max(n.cpus for n in nodes if n.gpus >= resources.gpus_per_runner):g} a runner",
        )
    if room < at_least:
        raise NotEnoughResources(
            f"{where} holds {room} runners of this size, not {at_least}",
            at=f"/resources/{'env_runners' if at_least <= resources.env_runners else 'fine_tune_workers'}",
            remedy=f"ask for at most {room}, for less CPU or GPU each, or add nodes",
        )


def wait_for_room(resources: Resources, *, grows: Growth = AS_IT_IS, on_wait: Callable[[str | None], None]) -> None:
    """Until one runner has room: the others join as they find it.

    `on_wait` is called with the reason, and with None once the wait is over; it may raise to stop. There is no limit
    where others use what there is: they may do so for days, and the job has a timeout_seconds for it. A node that the
    cluster has yet to bring is asked for, and given up after a while.
    """
    nodes = grows.at_most(whole_cluster(), resources)
    refuse_what_never_fits(resources, nodes, at_least=1, where="the cluster")
    if _has_room(resources):
        return
    need = f"{resources.cpus_per_runner:g} CPUs"
    if resources.gpus_per_runner:
        need += f" and {resources.gpus_per_runner:g} GPUs"
    with _wanted(resources) if grows.nodes else nullcontext(partial(_has_room, resources)) as there:
        without: float | None = None  # since when no node is large enough
        while not there():
            looked_at = time.monotonic()
            if any(node.holds(resources) for node in whole_cluster()):
                without = None
                reason = f"the cluster is busy: waiting until a node has {need} free for the first runner"
            else:
                without = without or looked_at
                reason = f"no node has {need} yet: waiting for the cluster to bring one"
                if grows.nodes and looked_at - without >= grows.seconds:
                    raise NodesDidNotCome(need, grows.seconds)
            while time.monotonic() - looked_at < LOOK_SECONDS:
                on_wait(reason)
                time.sleep(cluster.LOOK_SECONDS)
    on_wait(None)


def _has_room(resources: Resources) -> bool:
    return any(node.holds(resources) for node in free_now())


@contextmanager
def _wanted(resources: Resources) -> Iterator[Callable[[], bool]]:
    """Asks the cluster for all of the job's runners, so that it brings their nodes together; whether one has its room.

    A cluster grows only for what waits. These placement groups wait without any process, and end with this driver.
    """
    from ray.util import placement_group, placement_group_table, remove_placement_group

    bundle = {"CPU": resources.cpus_per_runner, "GPU": resources.gpus_per_runner}
    asked = [placement_group([{kind: n for kind, n in bundle.items() if n}]) for _ in range(resources.env_runners)]
    try:
        yield lambda: any(placement_group_table(group).get("state") == "CREATED" for group in asked)
    finally:
        for group in asked:
            remove_placement_group(group)
