"""The Pareto front of accuracy over what is saved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from purlkit.front import front

SHARES = st.integers(0, 5).map(lambda fifth: fifth / 5)


def test_a_point_that_saves_less_for_less_accuracy_is_not_on_it() -> None:
    assert front([(0.5, 0.9), (0.8, 0.95), (0.9, 0.93), (0.95, 0.93)]) == [1, 3]


def test_equal_points_are_both_on_it() -> None:
    assert front([(0.5, 0.9), (0.5, 0.9)]) == [0, 1]


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=10))
def test_it_is_never_empty_and_rises_in_one_where_it_falls_in_the_other(points: list[tuple[float, float]]) -> None:
    on_it = sorted({points[i] for i in front(points)})

    assert max(point[1] for point in points) == on_it[0][1]
    assert max(point[0] for point in points) == on_it[-1][0]
    assert [accuracy for _, accuracy in on_it] == sorted({accuracy for _, accuracy in on_it}, reverse=True)
