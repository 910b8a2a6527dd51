"""Several workers that train one network: actors that form a group of torch's, and are formed anew when one is lost.

What they do they do in pieces of some minutes, each from the state that the one before ended with: that is what a lost
worker, a pause or a killed attempt can cost. docs/adr/0024 says why this is not Ray Train.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import ray
import torch.distributed as dist
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from purlkit.errors import PurlError, SearchStuck
from purlkit.spec import JobSpec
from purlkit.training.together import Team
from workers import capacity
from workers.tuning import Leg, Run, fine_tune

log = logging.getLogger("purl.crew")

POLL_SECONDS = 0.5
ROOM_SECONDS = 60.0  # for a place for all of them; then for one less
MEETING = timedelta(minutes=10)  # the slowest may need so long to read its data
TOLD_SECONDS = 10.0  # of waiting for room before the user hears of it
NOTICE_SECONDS = 75.0  # until Ray knows of a node that it is gone; whoever trained with it may know at once
LOSSES = 10  # in a row, without a piece between


class NotMet(Exception):
    """They did not find together: somebody else took the port, say."""


class Worker:
    """One of them, as an actor."""

    def open(self) -> tuple[str, int]:
        """Where the others find the first of them."""
        self.address = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind(("", 0))
            return self.address, free.getsockname()[1]

    def join(self, host: str, port: int, rank: int, size: int, *, on_one_node: bool, gpu: bool) -> None:
        if on_one_node:
            os.environ["GLOO_SOCKET_IFNAME"], host = "lo", "127.0.0.1"
        meet = f"tcp://{host}:{port}"
        backend = "nccl" if gpu else "gloo"
        dist.init_process_group(backend, init_method=meet, rank=rank, world_size=size, timeout=MEETING)

    def tune(self, spec_json: str, dense: Any, leg: Leg, data: Any, pulse: Any) -> Run | None:
        """All do it, and the first tells of it."""
        team = Team.here()
        run = fine_tune(spec_json, dense, leg, data, pulse, team)
        return run if team.rank == 0 else None


@dataclass
class Crew:
    """`on_wait` is called all the while, and may raise to stop."""

    spec: JobSpec
    on_wait: Callable[[], None]
    waits_for: Callable[[str | None], None] = lambda _: None  # is told why nothing happens, and None when that is over
    _workers: list[Any] = field(default_factory=list)
    _room: Any = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._part()

    def tune(self, leg: Leg, dense: Any, data: Any, pulse: Any) -> Run:
        """A piece of the leg, however many workers are lost over it."""
        for _ in range(LOSSES):
            try:
                if not self._workers:
                    self._meet(pulse)
                arguments = (self.spec.model_dump_json(), dense, leg, data, pulse)
                (run, *_) = self._all([worker.tune.remote(*arguments) for worker in self._workers])
            except (ray.exceptions.RayActorError, NotMet) as error:
                log.warning("a worker is lost, all begin anew where the last piece ended: %s", error)
                self._part()
            else:
                return run  # type: ignore[no-any-return]
        raise SearchStuck(f"{LOSSES} times in a row a worker was lost in the middle of a training")

    def _meet(self, pulse: Any) -> None:
        size = self._reserve(self.spec.resources.fine_tune_workers, pulse)
        strategy = PlacementGroupSchedulingStrategy(self._room)
        wanted = self.spec.resources
        actor = ray.remote(
            num_cpus=wanted.cpus_per_runner, num_gpus=wanted.gpus_per_runner, scheduling_strategy=strategy
        )(Worker)
        self._workers = [actor.remote() for _ in range(size)]
        addresses = self._all([worker.open.remote() for worker in self._workers])
        host, port = addresses[0]
        alike = {"on_one_node": all(address == host for address, _ in addresses), "gpu": wanted.gpus_per_runner > 0}
        try:
            joining = [worker.join.remote(host, port, rank, size, **alike) for rank, worker in enumerate(self._workers)]
            self._all(joining)
        except ray.exceptions.RayTaskError as error:
            raise NotMet(str(error).splitlines()[-1]) from error

    def _reserve(self, size: int, pulse: Any) -> int:
        """A place for all of them at once, or half of them would wait for ever; after a while for as many as fit."""
        wanted = self.spec.resources
        one = {"CPU": wanted.cpus_per_runner, **({"GPU": wanted.gpus_per_runner} if wanted.gpus_per_runner else {})}
        while True:
            self._room = placement_group([one] * size, strategy="PACK")
            began, ready = time.monotonic(), self._room.ready()
            while size == 1 or time.monotonic() - began < ROOM_SECONDS:
                if ray.wait([ready], timeout=POLL_SECONDS)[0]:
                    self.waits_for(None)
                    return size
                self.on_wait()
                if time.monotonic() - began > TOLD_SECONDS:
                    pulse.tick.remote()  # to wait is no stall
                    self.waits_for(f"the cluster is busy: waiting for room for {size} workers that train together")
            remove_placement_group(self._room)
            size = max(1, min(size - 1, sum(node.holds(wanted) for node in capacity.free_now())))
            log.warning("there is no room for all workers: trying with %d", size)

    def _all(self, calls: list[Any]) -> list[Any]:
        """Their answers. Where one is lost or at fault the others may fail too, since they wait for it: its own failure
        is what is raised, as soon as it is known.
        """
        waiting = list(calls)
        failure: Exception | None = None
        until = float("inf")
        while waiting and time.monotonic() < until:
            ready, waiting = ray.wait(waiting, timeout=POLL_SECONDS)
            self.on_wait()
            for call in ready:
                try:
                    ray.get(call)
                except ray.exceptions.RayActorError:
                    raise
                except ray.exceptions.RayError as error:
                    if isinstance(getattr(error, "cause", None), PurlError):
                        raise
                    failure = failure or error
                    until = min(until, time.monotonic() + NOTICE_SECONDS)
        if failure is not None:
            raise failure
        return ray.get(calls)  # type: ignore[no-any-return]

    def _part(self) -> None:
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []
        if self._room is not None:
            remove_placement_group(self._room)
            self._room = None
