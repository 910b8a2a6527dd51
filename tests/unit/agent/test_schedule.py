"""Which episode is played when, and that timing changes nothing."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from purlkit.agent.schedule import Schedule


def test_an_episode_waits_until_the_policy_it_acts_with_exists() -> None:
    schedule: Schedule[str] = Schedule(episodes=4, lookahead=2)

    assert schedule.start_next() == (0, False)
    assert schedule.start_next() == (1, False)
    assert schedule.start_next() is None  # episode 2 acts with what was learnt from episode 0, which is still played

    schedule.finish(0, "zero")
    assert schedule.commit_next() == "zero"
    assert schedule.start_next() == (2, False)
    assert schedule.start_next() is None


def test_episodes_are_learnt_from_in_order_whichever_ends_first() -> None:
    schedule: Schedule[str] = Schedule(episodes=3, lookahead=3)
    for _ in range(3):
        schedule.start_next()

    schedule.finish(2, "two")
    assert schedule.commit_next() is None
    schedule.finish(0, "zero")
    assert schedule.commit_next() == "zero"
    assert schedule.commit_next() is None
    schedule.finish(1, "one")
    assert [schedule.commit_next(), schedule.commit_next()] == ["one", "two"]
    assert schedule.done


def test_a_lost_episode_is_played_again_first_and_is_marked() -> None:
    schedule: Schedule[str] = Schedule(episodes=4, lookahead=3)
    for _ in range(3):
        schedule.start_next()

    schedule.lost(1)

    assert schedule.start_next() == (1, True)


def test_a_resumed_search_begins_after_the_last_learnt_episode_and_marks_what_was_begun_before() -> None:
    schedule: Schedule[str] = Schedule(episodes=6, lookahead=2, committed=3, started=5)

    assert schedule.start_next() == (3, True)
    assert schedule.start_next() == (4, True)
    schedule.finish(3, "three")
    schedule.commit_next()
    assert schedule.start_next() == (5, False)


def test_what_was_finished_before_an_interruption_is_learnt_from_in_its_turn_and_not_played_again() -> None:
    schedule: Schedule[str] = Schedule(episodes=6, lookahead=3, committed=2, started=5, finished={3: "three"})

    assert schedule.played == 3
    assert [schedule.start_next(), schedule.start_next()] == [(2, True), (4, True)]
    schedule.finish(2, "two")
    assert [schedule.commit_next(), schedule.commit_next(), schedule.commit_next()] == ["two", "three", None]
    assert schedule.played == 4


def test_the_policies_that_may_still_be_needed_are_the_last_lookahead_ones() -> None:
    schedule: Schedule[str] = Schedule(episodes=10, lookahead=3, committed=5)

    assert list(schedule.needed_versions()) == [3, 4, 5]
    assert [schedule.version_for(index) for index in (0, 2, 3, 5, 7)] == [0, 0, 1, 3, 5]


@given(
    episodes=st.integers(1, 30),
    lookahead=st.integers(1, 6),
    runners=st.integers(1, 6),
    timing=st.randoms(use_true_random=False),
    losses=st.integers(0, 5),
)
def test_versions_and_order_depend_on_the_index_alone(
    episodes: int, lookahead: int, runners: int, timing: random.Random, losses: int
) -> None:
    schedule: Schedule[int] = Schedule(episodes, lookahead)
    playing: list[int] = []
    learnt: list[int] = []

    while not schedule.done:
        while len(playing) < runners and (chosen := schedule.start_next()):
            index = chosen[0]
            assert schedule.version_for(index) == max(0, index - lookahead + 1)
            assert schedule.version_for(index) in schedule.needed_versions()
            playing.append(index)
        ended = playing.pop(timing.randrange(len(playing)))
        if losses and timing.random() < 0.3:
            losses -= 1
            schedule.lost(ended)
            continue
        schedule.finish(ended, ended)
        while (outcome := schedule.commit_next()) is not None:
            learnt.append(outcome)

    assert learnt == list(range(episodes))
