"""The agent's memory holds exactly the last so many steps."""

from __future__ import annotations

import numpy as np

from purlkit.agent.replay import Replay, Step


def step(number: int) -> Step:
    observation = np.full(2, number, np.float32)
    return Step(observation, action=number % 3, reward=-0.5, next_observation=observation + 1, terminated=number == 9)


def filled(capacity: int, count: int, seed: int = 0) -> Replay:
    replay = Replay(capacity, seed)
    for number in range(count):
        replay.add(step(number))
    return replay


def test_only_the_last_steps_are_kept() -> None:
    replay = filled(capacity=4, count=10)

    assert len(replay) == 4
    assert replay.arrays()["observation"][:, 0].tolist() == [6, 7, 8, 9]
    assert replay.arrays()["terminated"].tolist() == [False, False, False, True]


def test_a_batch_is_drawn_evenly_from_all_of_them() -> None:
    drawn = filled(capacity=4, count=10).sample(4000)

    values, counts = np.unique(drawn["observation"][:, 0], return_counts=True)
    assert values.tolist() == [6, 7, 8, 9]
    assert counts.min() > 850  # 1000 expected of each; 850 is five standard deviations below
    assert np.array_equal(drawn["next_observation"], drawn["observation"] + 1)


def test_a_restored_memory_draws_what_the_first_would_have_drawn() -> None:
    first = filled(capacity=5, count=9)
    first.sample(3)

    second = Replay(5, seed=123)
    second.restore(first.arrays())
    second.generator.bit_generator.state = first.generator.bit_generator.state

    assert all(np.array_equal(a, b) for a, b in zip(first.sample(8).values(), second.sample(8).values(), strict=True))


def test_an_empty_memory_is_restored_as_empty() -> None:
    replay = filled(capacity=5, count=3)

    replay.restore(Replay(5, seed=0).arrays())

    assert len(replay) == 0
