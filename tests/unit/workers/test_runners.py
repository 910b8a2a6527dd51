"""The limits of the pool, with a stand-in for Ray: what real Ray would take minutes to bring about."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from purlkit.errors import EnvironmentFailed, OutOfMemory, SearchStuck
from workers import runners
from workers.playing import PlayEpisode
from workers.runners import Limits, Runners

DIED = ray.exceptions.RayActorError()


class StandIn:
    """Answers a call with what `answers` has for it; calls and actors are numbered from 0 in the order in which they
    are made."""

    exceptions = ray.exceptions

    def __init__(self) -> None:
        self.answers: dict[int, Any] = {}
        self.actors: list[Any] = []
        self.killed: list[Any] = []
        self.calls = 0

    def start(self, _: int) -> Any:
        actor = SimpleNamespace(apply=SimpleNamespace(remote=self._called))
        self.actors.append(actor)
        return actor

    def _called(self, _: Any) -> int:
        self.calls += 1
        return self.calls - 1

    def wait(self, calls: list[int], *, num_returns: int, timeout: float) -> tuple[list[int], list[int]]:  # noqa: ARG002
        ready = [call for call in calls if call in self.answers][:num_returns]
        return ready, [call for call in calls if call not in ready]

    def get(self, call: int, *, timeout: float) -> Any:  # noqa: ARG002
        if isinstance(answer := self.answers[call], Exception):
            raise answer
        return answer

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(runners, "ray", stand_in)
    return stand_in


def silent_for(seconds: float) -> Any:
    return SimpleNamespace(silent_for=lambda _: seconds)


def an_episode(index: int = 0) -> PlayEpisode:
    return PlayEpisode(
        index=index, kind="search", seed=0, retrain_seed=0, steps_before=0, version=0, weights={}, rerun=False
    )


def test_so_many_losses_of_one_place_in_a_row_end_the_search(stand_in: StandIn) -> None:
    pool = Runners(1, stand_in.start, silent_for(0), Limits(losses=3))
    stand_in.answers = {0: DIED, 1: DIED, 2: DIED}

    assert [pool.wait(0), pool.wait(0)] == [[], []]
    with pytest.raises(SearchStuck, match="3 runners in a row were lost"):
        pool.wait(0)


def test_who_is_taken_to_hang_again_and_again_may_only_be_slow_and_the_error_says_what_then(stand_in: StandIn) -> None:
    pool = Runners(1, stand_in.start, silent_for(math.inf), Limits(hang_seconds=0, losses=1))
    stand_in.answers = {0: None}
    pool.wait(0)
    pool.play(1, an_episode())

    with pytest.raises(SearchStuck, match=r"lower search\.retrain\.batch_size"):
        pool.wait(0)


def test_an_episode_between_two_losses_begins_their_count_anew(stand_in: StandIn) -> None:
    pool = Runners(1, stand_in.start, silent_for(0), Limits(losses=2))
    stand_in.answers = {0: DIED, 1: None}  # the second one greets
    pool.wait(0)
    pool.wait(0)

    pool.play(1, an_episode())
    stand_in.answers[2] = "played"
    assert pool.wait(0) == [(an_episode(), "played")]
    pool.play(1, an_episode(1))
    stand_in.answers[3] = DIED

    assert pool.wait(0) == [(an_episode(1), runners.LOST)]
    assert len(stand_in.actors) == 3


def test_one_that_does_not_come_while_another_is_there_is_replaced(stand_in: StandIn) -> None:
    pool = Runners(2, stand_in.start, silent_for(0), Limits(hang_seconds=0, start_seconds=0))
    stand_in.answers = {0: None}

    pool.wait(0)

    assert stand_in.killed == [stand_in.actors[1]]
    assert len(stand_in.actors) == 3
    stand_in.answers[2] = None
    pool.wait(0)
    assert pool.here == 2


def test_whoever_still_has_time_to_come_is_waited_for(stand_in: StandIn) -> None:
    pool = Runners(2, stand_in.start, silent_for(0), Limits(hang_seconds=0))
    stand_in.answers = {0: None}

    pool.wait(0)

    assert stand_in.killed == []


@pytest.mark.parametrize(("silence", "hangs"), [(0, False), (math.inf, True)])
def test_an_episode_may_take_any_time_that_is_not_spent_in_silence(
    stand_in: StandIn, silence: float, hangs: bool
) -> None:
    pool = Runners(1, stand_in.start, silent_for(silence), Limits(hang_seconds=0))
    stand_in.answers = {0: None}
    pool.wait(0)
    pool.play(1, an_episode())

    assert pool.wait(0) == ([(an_episode(), runners.LOST)] if hangs else [])
    assert stand_in.killed == (stand_in.actors[:1] if hangs else [])


def test_a_start_that_raises_is_tried_once_more(stand_in: StandIn) -> None:
    pool = Runners(1, stand_in.start, silent_for(0), Limits())
    raised = ray.exceptions.RayActorError(error_msg="Traceback …\nValueError: no such layer", actor_init_failed=True)
    stand_in.answers = {0: raised, 1: raised}

    assert pool.wait(0) == []
    with pytest.raises(EnvironmentFailed, match="ValueError: no such layer"):
        pool.wait(0)


RAISED = ray.exceptions.RayActorError(error_msg="CUDA error: unknown", actor_init_failed=True)


def test_a_node_where_no_runner_can_start_does_not_end_a_search_that_others_play(stand_in: StandIn) -> None:
    pool = Runners(2, stand_in.start, silent_for(0), Limits(again_seconds=0))
    stand_in.answers = {0: None, 1: RAISED, 2: RAISED, 3: RAISED}  # the first greets, the other place is on that node

    for _ in range(4):
        assert pool.wait(0) == []

    assert (pool.here, len(stand_in.actors)) == (1, 5)
    stand_in.answers[4] = None  # a fourth start of it was on another node
    pool.wait(0)
    assert pool.here == 2


def test_its_place_waits_before_the_next_start_unless_nobody_is_left(stand_in: StandIn) -> None:
    pool = Runners(2, stand_in.start, silent_for(0), Limits())
    stand_in.answers = {0: None, 1: RAISED}
    pool.wait(0)
    pool.wait(0)
    assert len(stand_in.actors) == 2

    pool.play(1, an_episode())
    stand_in.answers[2] = DIED

    assert pool.wait(0) == [(an_episode(), runners.LOST)]
    assert len(stand_in.actors) == 4


def test_where_no_place_can_start_one_the_exception_is_told_and_not_only_that_nobody_came(stand_in: StandIn) -> None:
    pool = Runners(2, stand_in.start, silent_for(0), Limits(alone_seconds=0))
    stand_in.answers = {0: RAISED}  # the other place waits for room

    with pytest.raises(EnvironmentFailed, match="the runners can't be started: CUDA error: unknown"):
        pool.wait(0)


def test_runners_that_start_out_of_memory_are_to_become_fewer(stand_in: StandIn) -> None:
    pool = Runners(2, stand_in.start, silent_for(0), Limits())
    full = ray.exceptions.RayActorError(error_msg="torch.OutOfMemoryError: CUDA out of memory", actor_init_failed=True)
    stand_in.answers = {0: full, 1: full}

    assert pool.wait(0) == []
    with pytest.raises(OutOfMemory, match="CUDA out of memory"):
        pool.wait(0)


def test_a_start_between_two_that_raise_begins_their_count_anew(stand_in: StandIn) -> None:
    pool = Runners(1, stand_in.start, silent_for(0), Limits(failed_starts=2))
    raised = ray.exceptions.RayActorError(error_msg="ValueError: no such layer", actor_init_failed=True)
    stand_in.answers = {0: raised, 1: None, 2: DIED, 3: raised}
    pool.wait(0)
    pool.wait(0)
    pool.play(1, an_episode())

    assert pool.wait(0) == [(an_episode(), runners.LOST)]
    assert pool.wait(0) == []
