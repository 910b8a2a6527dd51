"""One turn of the search in the driver, with runners that are not there."""

from __future__ import annotations

from typing import Any

import pytest

from purlkit.agent.schedule import Schedule
from workers import dqn, searchstate
from workers.dqn import Learnt, PurlDQN
from workers.playing import Played, PlayEpisode
from workers.search import Hooks, _play


class Answers:
    """Runners, all with a task, whose episodes end in a given order; one turn of waiting for each list."""

    idle = None

    def __init__(self, *turns: list[int]) -> None:
        self.turns = list(turns)
        self.waited: list[float] = []

    def wait(self, seconds: float) -> list[tuple[PlayEpisode, Any]]:
        self.waited.append(seconds)
        return [self._ended(index) for index in (self.turns.pop(0) if self.turns else [])]

    def _ended(self, index: int) -> tuple[PlayEpisode, Any]:
        task = PlayEpisode(index=index, kind="search", seed=0, retrain_seed=0, steps_before=0, version=0, weights={})
        return task, Played.__new__(Played)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> PurlDQN:
    """An algorithm without RLlib's learner, whose learning takes no time."""
    driver = PurlDQN.__new__(PurlDQN)
    driver.schedule, driver.learnt = Schedule(4, 4), Learnt()
    for _ in range(4):
        driver.schedule.start_next()
    monkeypatch.setattr(driver, "_learn_from", driver.learnt.episodes.append)
    return driver


def test_a_turn_learns_from_one_episode_however_many_waited_for_it(driver: PurlDQN) -> None:
    runners = driver._runners = Answers([3, 2], [0, 1])

    learnt = []
    while not driver.search_done:
        driver.training_step()
        learnt.append(len(driver.learnt.episodes))

    assert learnt == [0, 1, 2, 3, 4]
    assert runners.waited == [dqn.WAIT_SECONDS] * 2 + [0] * 3


def test_of_a_backlog_each_finished_episode_and_the_end_are_saved(
    driver: PurlDQN, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver._runners = Answers([3, 2], [0, 1])
    monkeypatch.setattr(driver, "train", driver.training_step)
    monkeypatch.setattr(searchstate, "dump", lambda driver: driver.schedule.committed)
    said: list[Any] = []

    _play(driver, Hooks(on_episode=lambda _: said.append("told"), on_state=said.append, on_wait=lambda: None))

    assert said == [0, "told", 1, "told", "told", "told", 4]
