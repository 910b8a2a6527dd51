"""How the driver sees that its runners live: a counter that every finished step moves."""

from __future__ import annotations

import math
import time
from typing import Any

import ray


class PulseCounter:
    """The counter as an actor of its own, so that a busy runner can say it and a busy driver can read it."""

    def __init__(self) -> None:
        self.count = 0
        self.by_runner: dict[int, int] = {}
        self.gpu_bytes: dict[int, int] = {}

    def tick(self, runner: int = 0, gpu_bytes: int = 0) -> None:
        """A step has ended, or a batch in the middle of a long one."""
        self.count += 1
        self.by_runner[runner] = self.by_runner.get(runner, 0) + 1
        self.gpu_bytes[runner] = max(gpu_bytes, self.gpu_bytes.get(runner, 0))

    def read(self) -> tuple[int, dict[int, int], int]:
        return self.count, self.by_runner, sum(self.gpu_bytes.values())


class Pulse:
    """The driver's view: asks without ever waiting, so that a lost actor costs nothing but its count."""

    def __init__(self, *, already: int) -> None:
        self.actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(PulseCounter).remote()
        self.gpu_bytes = 0  # of the GPUs' memory, that all runners together have taken at most
        self._asked: Any = None
        self._asked_at = -math.inf
        self._seen = 0
        self._before = already  # counted elsewhere, or by an actor that was lost and began anew
        self._by_runner: dict[int, int] = {}
        self._heard_at: dict[int, float] = {}
        self._read_at = -math.inf

    def read(self) -> int:
        if self._asked is None:
            self._asked, self._asked_at = self.actor.read.remote(), time.monotonic()
        ready, _ = ray.wait([self._asked], timeout=0)
        if ready:
            self._asked = None
            try:
                count, by_runner, gpu_bytes = ray.get(ready[0], timeout=1.0)
            except (ray.exceptions.RayError, TimeoutError):
                return self._before + self._seen
            if count < self._seen:
                self._before += self._seen
            self._seen = count
            self.gpu_bytes = max(self.gpu_bytes, gpu_bytes)
            self._hear(by_runner)
        return self._before + self._seen

    def _hear(self, by_runner: dict[int, int]) -> None:
        # The answer is at least as new as the question and may have lain here since: a driver that was busy for minutes
        # must not take what it did not read meanwhile for silence.
        self._read_at, now = self._asked_at, time.monotonic()
        for runner, count in by_runner.items():
            if count != self._by_runner.get(runner):
                self._heard_at[runner] = now
        self._by_runner = by_runner

    def silent_for(self, runner: int) -> float:
        """Up to the latest question that the counter answered: while it is away, nobody can be said to be silent."""
        if self._read_at == -math.inf:
            return 0.0
        return max(0.0, self._read_at - self._heard_at.get(runner, -math.inf))
