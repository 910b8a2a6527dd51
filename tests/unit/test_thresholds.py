"""The paper's rule and its rival, with numbers that can be checked by hand."""

from __future__ import annotations

import pytest
import torch

from purlkit.pruning.thresholds import in_sigmas, keep_above, keep_largest, sigma, standing

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


TEN = torch.tensor([3.0, -1.0, 9.0, 4.0, -6.0, 2.0, 8.0, -7.0, 5.0, 10.0])


@pytest.mark.parametrize(
    ("share", "lost"), [(0.0, 0), (0.04, 0), (0.05, 0), (0.06, 1), (0.5, 5), (0.54, 5), (0.56, 6), (0.9, 9), (0.99, 9)]
)
def test_a_share_goes_to_the_nearest_weight_and_the_largest_stays(share: float, lost: int) -> None:
    gone = TEN[~keep_largest(TEN, share)].abs().sort().values

    assert gone.tolist() == list(range(1, lost + 1))


def test_what_is_removed_already_counts_towards_the_share() -> None:
    weight = torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0])

    assert keep_largest(weight, 0.25).tolist() == [False] * 3 + [True] * 5
    assert keep_largest(weight, 0.5).tolist() == [False] * 4 + [True] * 4
    alive = torch.tensor([True] * 4 + [False] * 4)  # whatever the weights there are
    assert keep_largest(weight, 0.5, alive).tolist() == [True] * 4 + [False] * 4
    assert keep_largest(weight, 0.99, alive).tolist() == [False] * 3 + [True] + [False] * 4


def test_of_equal_weights_the_first_stay() -> None:
    assert keep_largest(torch.tensor([1.0, -1.0, 1.0, 1.0]), 0.5).tolist() == [True, True, False, False]
    assert keep_largest(torch.ones(100), 0.5).tolist() == [True] * 50 + [False] * 50  # of so many a sort may lose track


def test_the_alpha_at_which_a_weight_goes_is_its_size_in_deviations() -> None:
    assert in_sigmas(WEIGHT, WEIGHT != 0).tolist() == [[0.2, 0.2], [1.4, 1.4]]


def test_standing() -> None:
    weight = torch.tensor([[2.0, -5.0], [0.0, 1.0]])

    assert standing(weight, weight != 0).tolist() == [[0.625, 1.0], [0.125, 0.375]]


def test_a_threshold_between_two_float32_numbers_is_not_rounded_to_one_of_them() -> None:
    weight = torch.tensor([1.0, -1.0])  # sigma is 1

    assert keep_above(weight, 1.0).tolist() == [True, True]
    assert keep_above(weight, 1 + 1e-9).tolist() == [False, False]
