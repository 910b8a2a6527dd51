"""Whose silence the driver may hold against a runner, with a stand-in for Ray and a clock that is set."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from workers import pulse
from workers.pulse import Pulse, PulseCounter

BUSY = 600.0


class StandIn:
    """A counter in this process. Its answer is what it knew when asked, and lies ready at the next look."""

    def __init__(self) -> None:
        self.counter = PulseCounter()
        self.now = 0.0
        self._answers: list[Any] = []
        self._seen = 0

    def monotonic(self) -> float:
        return self.now

    def remote(self, **_: Any) -> Any:
        actor = SimpleNamespace(read=SimpleNamespace(remote=self._asked))
        return lambda _: SimpleNamespace(remote=lambda: actor)

    def _asked(self) -> int:
        count, by_runner, gpu_bytes = self.counter.read()
        self._answers.append((count, dict(by_runner), gpu_bytes))
        return len(self._answers) - 1

    def wait(self, asked: list[int], *, timeout: float) -> tuple[list[int], list[int]]:  # noqa: ARG002
        ready = [each for each in asked if each < self._seen]
        self._seen = len(self._answers)
        return ready, []

    def get(self, asked: int, *, timeout: float) -> Any:  # noqa: ARG002
        return self._answers[asked]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(pulse, "ray", stand_in)
    monkeypatch.setattr(pulse, "time", stand_in)
    return stand_in


def looked(driver: Pulse, ray: StandIn, *, times: int) -> None:
    for _ in range(times):
        ray.now += 1
        driver.read()


def test_a_driver_that_was_busy_takes_nothing_that_it_did_not_read_for_silence(ray: StandIn) -> None:
    driver = Pulse(already=0)
    ray.counter.tick(1)
    looked(driver, ray, times=3)  # the last of them asks, and the answer is not here yet
    assert driver.silent_for(1) < 3

    ray.now += BUSY
    for _ in range(100):  # meanwhile the runner works on
        ray.counter.tick(1)
    driver.read()

    assert driver.silent_for(1) < 3
    looked(driver, ray, times=2)
    assert driver.silent_for(1) < 3


def test_who_gives_no_sign_is_silent_and_who_never_gave_any_was_so_for_ever(ray: StandIn) -> None:
    driver = Pulse(already=0)
    assert driver.silent_for(1) == 0
    ray.counter.tick(1)
    looked(driver, ray, times=2)

    looked(driver, ray, times=200)

    assert 195 < driver.silent_for(1) <= 200
    assert driver.silent_for(2) == math.inf


def test_what_runners_took_of_gpus_is_the_sum_of_what_each_took_at_most(ray: StandIn) -> None:
    driver = Pulse(already=0)
    for runner, gpu_bytes in ((1, 300), (2, 50), (1, 100)):
        ray.counter.tick(runner, gpu_bytes)

    looked(driver, ray, times=2)

    assert driver.gpu_bytes == 350


def test_a_counter_that_began_anew_takes_nothing_back_of_what_was_taken(ray: StandIn) -> None:
    driver = Pulse(already=0)
    ray.counter.tick(1, 300)
    looked(driver, ray, times=2)

    ray.counter = PulseCounter()
    ray.counter.tick(1, 100)
    looked(driver, ray, times=3)

    assert driver.gpu_bytes == 300
