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
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from purlkit.errors import SearchStuck
from purlkit.spec import JobSpec
from purlkit.training.together import Team
from workers.tuning import Leg, Run, fine_tune

log = logging.getLogger("purl.crew")

POLL_SECONDS = 0.5
ROOM_SECONDS = 60.0  # for a place for all of them; then for one less
MEETING = timedelta(minutes=10)  # the slowest may need so long to read its data
LAST_WORDS_SECONDS = 10.0  # for the others to notice that one is gone
LOSSES = 10  # in a row, without a piece between


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

    def tune(self, spec_json: str, dense: Any, leg: Leg, datasets_dir: str, pulse: Any) -> Run | None:
        """All do it, and the first tells of it."""
        team = Team.here()
        run = fine_tune(spec_json, dense, leg, datasets_dir, pulse, team)
        return run if team.rank == 0 else None


@dataclass
class Crew:
    """`on_wait` is called all the while, and may raise to stop."""

    spec: JobSpec
    on_wait: Callable[[], None]
    _workers: list[Any] = field(default_factory=list)
    _room: Any = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._part()

    def tune(self, leg: Leg, dense: Any, datasets_dir: Path, pulse: Any) -> Run:
        """A piece of the leg, however many workers are lost over it."""
        for _ in range(LOSSES):
            try:
                if not self._workers:
                    self._meet()
                arguments = (self.spec.model_dump_json(), dense, leg, str(datasets_dir), pulse)
                (run, *_) = self._all([worker.tune.remote(*arguments) for worker in self._workers])
            except ray.exceptions.RayActorError as error:
                log.warning("a worker is lost, all begin anew where the last piece ended: %s", error)
                self._part()
            else:
                return run  # type: ignore[no-any-return]
        raise SearchStuck(f"{LOSSES} times in a row a worker was lost in the middle of a training")

    def _meet(self) -> None:
        size = self._reserve(self.spec.resources.fine_tune_workers)
        strategy = PlacementGroupSchedulingStrategy(self._room)
        wanted = self.spec.resources
        actor = ray.remote(
            num_cpus=wanted.cpus_per_runner, num_gpus=wanted.gpus_per_runner, scheduling_strategy=strategy
        )(Worker)
        self._workers = [actor.remote() for _ in range(size)]
        addresses = self._all([worker.open.remote() for worker in self._workers])
        host, port = addresses[0]
        alike = {"on_one_node": all(address == host for address, _ in addresses), "gpu": wanted.gpus_per_runner > 0}
        self._all([worker.join.remote(host, port, rank, size, **alike) for rank, worker in enumerate(self._workers)])

    def _reserve(self, size: int) -> int:
        """A place for all of them at once, or half of them would wait for ever; for fewer where a node is missing."""
        wanted = self.spec.resources
        one = {"CPU": wanted.cpus_per_runner, **({"GPU": wanted.gpus_per_runner} if wanted.gpus_per_runner else {})}
        while True:
            self._room = placement_group([one] * size, strategy="PACK")
            began, ready = time.monotonic(), self._room.ready()
            while size == 1 or time.monotonic() - began < ROOM_SECONDS:
                if ray.wait([ready], timeout=POLL_SECONDS)[0]:
                    return size
                self.on_wait()
            remove_placement_group(self._room)
            size -= 1
            log.warning("there is no room for all workers: trying with %d", size)

    def _all(self, calls: list[Any]) -> list[Any]:
        """Their answers. Where one is lost the others fail too, since they wait for it: its loss is what is raised."""
        waiting = list(calls)
        failures: list[Exception] = []
        until = float("inf")
        while waiting and time.monotonic() < until:
            ready, waiting = ray.wait(waiting, timeout=POLL_SECONDS)
            self.on_wait()
            for call in ready:
                try:
                    ray.get(call)
                except ray.exceptions.RayError as error:
                    failures.append(error)
                    until = min(until, time.monotonic() + LAST_WORDS_SECONDS)
        if failures:
            raise min(failures, key=lambda failure: not isinstance(failure, ray.exceptions.RayActorError))
        return ray.get(calls)  # type: ignore[no-any-return]

    def _part(self) -> None:
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []
        if self._room is not None:
            remove_placement_group(self._room)
            self._room = None
