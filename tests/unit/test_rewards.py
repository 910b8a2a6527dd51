"""The reward, by hand: -beta * (max(1 - A/T_A, 0) + max(1 - P/T_P, 0))."""

from __future__ import annotations

import pytest

from purlkit.rewards import REWARDS, capped, cubic, not_reached, upside


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


@pytest.mark.parametrize(
    ("accuracy", "sparsity", "beta", "second", "third"),
    [
        (0.4, 0.2, 1.0, -1.25, -1.625),  # 0.5 - 1 and 0.5³ - 1, each less 0.75
        (0.8, 0.2, 1.0, -0.75, -0.75),
        (1.2, 0.2, 1.0, -0.25, 1.625),  # above the target is rewarded: 1.5 - 1 and 1.5³ - 1 = 2.375, less 0.75
        (1.2, 0.9, 1.0, 0.5, 2.375),  # more sparsity than asked for still pays for nothing
        (1.2, 0.9, 4.0, 2.0, 9.5),
    ],
)
def test_upside_and_cubic(accuracy: float, sparsity: float, beta: float, second: float, third: float) -> None:
    assert upside(accuracy, sparsity, 0.8, 0.8, beta) == pytest.approx(second)
    assert cubic(accuracy, sparsity, 0.8, 0.8, beta) == pytest.approx(third)


def test_layers_not_reached_cost_twice_beta_each_discounted() -> None:
    assert not_reached(2, beta=3.0, gamma=0.5) == -4.5  # -6 · 0.5 - 6 · 0.25
    assert not_reached(0, beta=3.0, gamma=0.5) == 0.0


def test_an_accuracy_target_of_nothing_is_always_met() -> None:
    assert capped(0.0, 0.9, 0.0, 0.9, 1.0) == 0.0
    assert capped(0.0, 0.9, -0.1, 0.9, 1.0) == 0.0
    assert upside(0.5, 0.9, 0.0, 0.9, 1.0) == 0.0
    assert cubic(0.5, 0.9, -0.1, 0.9, 1.0) == 0.0


def test_both_targets_met_is_a_plain_zero() -> None:
    assert str(capped(1.0, 1.0, 0.5, 0.5, 1.0)) == "0.0"


def test_the_rewards_have_names() -> None:
    assert {"capped": capped, "upside": upside, "cubic": cubic} == REWARDS
