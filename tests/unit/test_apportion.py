"""Dividing a whole number among layers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purlkit.pruning.apportion import apportion

WIDE = (0, 1000)


@pytest.mark.parametrize(
    ("count", "shares", "bounds", "numbers"),
    [
        (6, [1, 2, 3], [WIDE] * 3, [1, 2, 3]),
        (5, [1, 1], [WIDE] * 2, [3, 2]),  # 2.5 each: of equals the first
        (4, [3, 5, 6], [WIDE] * 3, [1, 1, 2]),  # 0.857, 1.43, 1.71: the largest remainders are the first and the third
        (10, [1, 1, 2], [WIDE, WIDE, (0, 2)], [4, 4, 2]),
        (10, [8, 1, 1], [(0, 3), (0, 3), WIDE], [3, 3, 4]),  # two meet their bounds, one after the other
        (3, [98, 1, 1], [WIDE, (1, 9), (1, 9)], [1, 1, 1]),
        (0, [1, 2], [WIDE] * 2, [0, 0]),
        (5, [1, 1], [(0, 2), (3, 3)], [2, 3]),  # exactly all there is
        (3, [1, 1], [(1, 4), (2, 4)], [1, 2]),  # exactly the least
    ],
)
def test_by_hand(count: int, shares: list[int], bounds: list[tuple[int, int]], numbers: list[int]) -> None:
    assert apportion(count, shares, bounds) == numbers


@pytest.mark.parametrize("count", [2, 9])
def test_a_sum_out_of_bounds_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="do not allow"):
        apportion(count, [1, 1], [(1, 4), (2, 4)])


@given(st.data())
def test_the_sum_is_met_within_bounds_and_each_is_within_one_of_a_common_scale(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 6))
    shares = data.draw(st.lists(st.integers(1, 50), min_size=n, max_size=n))
    bounds = [tuple(sorted(data.draw(st.tuples(st.integers(0, 30), st.integers(0, 30))))) for _ in range(n)]
    count = data.draw(st.integers(sum(low for low, _ in bounds), sum(high for _, high in bounds)))

    numbers = apportion(count, shares, bounds)

    assert sum(numbers) == count
    assert all(low <= number <= high for number, (low, high) in zip(numbers, bounds, strict=True))
    # Some scale explains all: none that could be lower is above it by a whole one, none that could be higher below.
    above = [Fraction(x - 1, share) for x, share, (low, _) in zip(numbers, shares, bounds, strict=True) if x > low]
    below = [Fraction(x + 1, share) for x, share, (_, high) in zip(numbers, shares, bounds, strict=True) if x < high]
    assert not above or not below or max(above) < min(below)
