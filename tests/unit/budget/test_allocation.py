"""Moves that change how the kept weights are divided, and never how many there are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purlkit.budget.allocation import Allocation, Budget, allocation_of, log_shares
from purlkit.errors import UnreachableSparsity
from purlkit.pruning.apportion import apportion
from purlkit.pruning.ranking import largest
from tests.unit.networks import layers_of


@st.composite
def budgets(draw: st.DrawFn) -> tuple[Budget, Allocation]:
    """A budget of one to six layers, some of them empty or of one weight, and an allocation of it."""
    most = draw(st.lists(st.integers(0, 200), min_size=1, max_size=6).filter(any))
    bounds = tuple((min(1, size), size) for size in most)
    total = draw(st.integers(sum(low for low, _ in bounds), sum(most)))
    return Budget(total, bounds), tuple(apportion(total, [max(size, 1) for size in most], bounds))


def inside(budget: Budget, allocation: Allocation) -> bool:
    return all(low <= kept <= high for kept, (low, high) in zip(allocation, budget.bounds, strict=True))


@given(budgets(), st.lists(st.tuples(st.integers(0, 5), st.floats(0.01, 100)), max_size=8))
def test_no_walk_ever_leaves_the_total_or_the_bounds(
    given: tuple[Budget, Allocation], moves: list[tuple[int, float]]
) -> None:
    budget, allocation = given

    for layer, factor in moves:
        allocation = budget.move(allocation, layer % len(allocation), factor)

        assert sum(allocation) == budget.total
        assert inside(budget, allocation)


@given(budgets(), st.floats(0.01, 100))
def test_a_move_gives_a_layer_its_part_as_nearly_as_the_others_can_pay(
    given: tuple[Budget, Allocation], factor: float
) -> None:
    budget, before = given

    after = budget.move(before, 0, factor)

    others = budget.bounds[1:]
    low = max(budget.bounds[0][0], budget.total - sum(high for _, high in others))
    high = min(budget.bounds[0][1], budget.total - sum(low for low, _ in others))
    assert after[0] == min(max(round(before[0] * factor), low), high)


@given(budgets())
def test_a_factor_of_one_changes_nothing(given: tuple[Budget, Allocation]) -> None:
    budget, allocation = given

    assert budget.move(allocation, 0, 1.0) == allocation


@given(budgets(), st.lists(st.floats(-100, 100), min_size=6, max_size=6))
def test_any_shares_are_divided_exactly(given: tuple[Budget, Allocation], shares: list[float]) -> None:
    budget, allocation = given

    divided = budget.divided(shares[: len(allocation)])

    assert sum(divided) == budget.total
    assert inside(budget, divided)


def test_shares_in_proportion_are_the_allocation_again() -> None:
    budget = Budget(100, ((1, 90), (1, 90), (1, 90)))

    assert budget.divided(log_shares((20, 50, 30))) == (20, 50, 30)
    assert budget.divided([math.log(2), math.log(5), math.log(3)]) == (20, 50, 30)


def test_a_budget_is_that_of_a_sparsity_and_zeros_are_no_weights_to_keep() -> None:
    layers = layers_of([1, 0, 3, 4], [5, 6])

    budget = Budget.of(layers, 0.5)

    assert budget == Budget(3, ((1, 3), (1, 2)))
    assert allocation_of(largest(layers, (2, 1)), layers) == (2, 1)
    with pytest.raises(UnreachableSparsity):
        Budget.of(layers, 0.9)
