"""The paper's rule, with numbers that can be checked by hand."""

from __future__ import annotations

import pytest
import torch

from purlkit.pruning.thresholds import keep_above, sigma

# Mean 0 and mean square (1 + 1 + 49 + 49) / 4 = 25: the population deviation is 5, the sample one 5.77.
WEIGHT = torch.tensor([[1.0, -1.0], [7.0, -7.0]])


def test_sigma_is_the_population_deviation() -> None:
    assert sigma(WEIGHT, WEIGHT != 0) == 5.0


def test_a_weight_exactly_at_the_threshold_stays() -> None:
    assert 0.2 * sigma(WEIGHT, WEIGHT != 0) == 1.0

    assert keep_above(WEIGHT, 0.2).all()


@pytest.mark.parametrize(
    ("alpha", "kept"),
    [
        (0.0, [[True, True], [True, True]]),
        (0.21, [[False, False], [True, True]]),
        (1.39, [[False, False], [True, True]]),
        (1.41, [[False, False], [False, False]]),
    ],
)
def test_what_is_below_alpha_deviations_goes(alpha: float, kept: list[list[bool]]) -> None:
    assert keep_above(WEIGHT, alpha).tolist() == kept


def test_zeros_are_removed_already_and_do_not_count_for_sigma() -> None:
    weight = torch.tensor([1.0, -1.0, 7.0, -7.0, 0.0, 0.0, 0.0, 0.0])  # with the zeros sigma would be 3.5

    assert keep_above(weight, 0.2).tolist() == [True] * 4 + [False] * 4
    assert keep_above(weight, 0.21).tolist() == [False, False, True, True] + [False] * 4


def test_only_survivors_count_and_nothing_else_comes_back() -> None:
    weight = torch.tensor([1.0, -1.0, 7.0, -7.0, 1000.0])
    alive = torch.tensor([True, True, True, True, False])

    assert keep_above(weight, 0.21, alive).tolist() == [False, False, True, True, False]


def test_equal_weights_have_no_deviation_and_stay() -> None:
    assert keep_above(torch.full((3,), 0.5), 2.2).all()


def test_a_layer_of_zeros_stays_empty() -> None:
    assert not keep_above(torch.zeros(3), 2.2).any()
