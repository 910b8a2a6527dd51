"""The reward, by hand: -beta * (max(1 - A/T_A, 0) + max(1 - P/T_P, 0))."""

from __future__ import annotations

import pytest

from purlkit.rewards import REWARDS, capped


@pytest.mark.parametrize(
    ("accuracy", "sparsity", "beta", "reward"),
    [
        (0.4, 0.2, 1.0, -1.25),  # 1 - 0.4/0.8 = 0.5 and 1 - 0.2/0.8 = 0.75
        (0.4, 0.2, 10.0, -12.5),
        (0.8, 0.2, 1.0, -0.75),
        (0.4, 0.8, 1.0, -0.5),
        (0.8, 0.8, 1.0, 0.0),
        (1.0, 0.2, 1.0, -0.75),  # more accuracy than asked for pays for nothing
        (0.4, 1.0, 1.0, -0.5),  # nor does more sparsity
        (0.0, 0.0, 1.0, -2.0),
    ],
)
def test_capped(accuracy: float, sparsity: float, beta: float, reward: float) -> None:
    assert capped(accuracy, sparsity, 0.8, 0.8, beta) == pytest.approx(reward)


def test_an_accuracy_target_of_nothing_is_always_met() -> None:
    assert capped(0.0, 0.9, 0.0, 0.9, 1.0) == 0.0
    assert capped(0.0, 0.9, -0.1, 0.9, 1.0) == 0.0


def test_both_targets_met_is_a_plain_zero() -> None:
    assert str(capped(1.0, 1.0, 0.5, 0.5, 1.0)) == "0.0"


def test_the_reward_has_a_name() -> None:
    assert REWARDS["capped"] is capped
