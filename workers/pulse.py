"""How the driver sees that its runners live: a counter that every finished step moves."""

from __future__ import annotations

from typing import Any

import ray


class PulseCounter:
    """The counter as an actor of its own, so that a busy runner can say it and a busy driver can read it."""

    def __init__(self) -> None:
        self.count = 0

    def tick(self) -> None:
        self.count += 1

    def read(self) -> int:
        return self.count


class Pulse:
    """The driver's view: asks without ever waiting, so that a lost actor costs nothing but its count."""

    def __init__(self, *, already: int) -> None:
        self.actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(PulseCounter).remote()
        self._asked: Any = None
        self._seen = 0
        self._before = already  # counted elsewhere, or by an actor that was lost and began anew

    def read(self) -> int:
        if self._asked is None:
            self._asked = self.actor.read.remote()
        ready, _ = ray.wait([self._asked], timeout=0)
        if ready:
            self._asked = None
            try:
                count = int(ray.get(ready[0]))
            except ray.exceptions.RayError:
                return self._before + self._seen
            if count < self._seen:
                self._before += self._seen
            self._seen = count
        return self._before + self._seen
