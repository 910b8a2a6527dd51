"""Successive halving by hand: who climbs how high, and what that costs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from purlkit.ladder import Plan, Rung, Standing, going_on, plan
from purlkit.spec import Race

SEVEN = ["search", "search", "naive", "naive", "naive", "naive", "random"]


def test_a_race_within_the_images_of_one_full_fine_tune() -> None:
    # 7 for one epoch and 3 for two more; of each the winner's own are not counted: 6 + 2 * 2 = 10 epochs, all there is.
    assert plan(Race(), SEVEN, epochs=10, images=100) == Plan((Rung(1, 7), Rung(3, 3)), 3, 1, 1000)


def test_with_a_larger_budget_the_finalists_run_to_the_end_over_three_seeds() -> None:
    # 10 epochs as above, 2 * 7 more to the end, and 3 finalists twice again in full.
    full = plan(Race(budget=8_400), SEVEN, epochs=10, images=100)

    assert full == Plan((Rung(1, 7), Rung(3, 3), Rung(10, 3)), 3, 3, 8_400)
    assert plan(Race(budget=8_399), SEVEN, epochs=10, images=100).seeds == 1


def test_without_early_stopping_all_run_to_the_end_whatever_it_costs() -> None:
    assert plan(Race(early_stop=False, budget=0), SEVEN, epochs=10, images=100) == Plan((Rung(10, 7),), 3, 1, 6000)


def test_one_rung_is_always_run() -> None:
    assert plan(Race(budget=0), SEVEN, epochs=10, images=100).rungs == (Rung(1, 7),)


def test_alone_there_is_nothing_to_compare() -> None:
    assert plan(Race(), ["search"], epochs=10, images=100) == Plan((Rung(1, 1), Rung(3, 1), Rung(10, 1)), 1, 1, 0)


def test_two_kinds_keep_two_finalists() -> None:
    assert plan(Race(budget=10**9), ["search", "naive"], epochs=9, images=1).rungs == (
        Rung(1, 2),
        Rung(3, 2),
        Rung(9, 2),
    )


def standings(*rows: tuple[str, int]) -> list[Standing]:
    cost = {"search": 9, "random": 5, "naive": 0}
    return [Standing(kind, correct, cost[kind]) for kind, correct in rows]


def test_the_best_of_each_kind_goes_on_whatever_its_rank() -> None:
    at = standings(("search", 10), ("search", 11), ("naive", 90), ("naive", 80), ("naive", 70), ("random", 5))

    assert going_on(Race(), at) == [1, 2, 3]  # the third place is the second naive method's


def test_random_search_goes_on_where_it_is_the_best() -> None:
    assert going_on(Race(), standings(("search", 10), ("naive", 20), ("naive", 15), ("random", 30))) == [0, 1, 3]


def test_without_a_naive_method_random_search_is_the_other_side_of_the_verdict_and_stays() -> None:
    assert going_on(Race(), standings(("search", 30), ("search", 20), ("random", 10))) == [0, 2]


def test_of_equals_the_cheaper_and_then_the_first_goes_on() -> None:
    at = standings(("search", 50), ("search", 50), ("naive", 50), ("naive", 50))

    assert going_on(Race(eta=2), at) == [0, 2]


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["search", "naive", "random"]), st.integers(0, 5)), min_size=1, max_size=12
    ),
    eta=st.integers(2, 10),
)
def test_the_best_of_all_always_goes_on_and_the_plan_knows_how_many(rows: list[tuple[str, int]], eta: int) -> None:
    at, race = standings(*rows), Race(eta=eta, budget=10**9)

    survivors = going_on(race, at)

    assert max(at[i].correct for i in survivors) == max(standing.correct for standing in at)
    rungs = plan(race, [kind for kind, _ in rows], epochs=eta, images=1).rungs
    assert len(survivors) == rungs[1].field


@given(
    kinds=st.lists(st.sampled_from(["search", "naive", "random"]), min_size=1, max_size=12),
    epochs=st.integers(1, 100),
    eta=st.integers(2, 10),
    budget=st.integers(0, 10_000),
)
def test_rungs_rise_to_at_most_the_full_run_within_the_budget(
    kinds: list[str], epochs: int, eta: int, budget: int
) -> None:
    made = plan(Race(eta=eta, budget=budget), kinds, epochs=epochs, images=1)

    heights = [rung.epochs for rung in made.rungs]
    assert heights == sorted(set(heights))
    assert 1 <= heights[0] <= heights[-1] <= epochs
    assert made.images <= budget or len(made.rungs) == 1
