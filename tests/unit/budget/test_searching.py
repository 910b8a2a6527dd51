"""The search at a fixed total, what chooses at its end, and what it is held to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from purlkit.agent.incumbent import incumbent
from purlkit.budget.allocation import Allocation, Budget
from purlkit.budget.halving import best_seen, halve, trainings
from purlkit.budget.rivals import RIVALS, Seen
from purlkit.budget.scouting import naive_allocations
from purlkit.budget.search import search
from purlkit.pruning.layers import prunable_layers
from purlkit.results import Episode
from purlkit.spec import JobSpec, Search
from purlkit.training.data import Splits
from tests.unit.networks import digits_net, some_images

BUDGET = Budget(1000, ((1, 900),) * 5)
START = (200,) * 5
BEST = (500, 50, 150, 100, 200)
FACTORS = Search.model_validate({"algorithm": "purl-budget"}).alphas


def distance(allocation: Allocation) -> float:
    """A landscape with one lowest place."""
    return sum(math.log(kept / best) ** 2 for kept, best in zip(allocation, BEST, strict=True))


def walked(index: int, kept: Allocation, loss: float | None) -> Episode:
    place = {"index": index, "kind": "search", "runner": 0, "weights_version": 0, "seconds": 0.0}
    return Episode(**place, actions=(), rewards=(), accuracies=(), sparsities=(), kept=kept, loss=loss)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_spends_exactly_its_evaluations_on_different_allocations_of_the_total(name: str) -> None:
    seen = Seen(distance, most=40)

    RIVALS[name](BUDGET, START, FACTORS, seen, 0)

    assert len(seen.losses) == 40
    assert {sum(allocation) for allocation in seen.losses} == {1000}
    again = Seen(distance, most=40)
    RIVALS[name](BUDGET, START, FACTORS, again, 0)
    assert again.losses == seen.losses


def test_cma_es_finds_the_lowest_place_where_random_walks_do_not() -> None:
    reached = {}
    for name in RIVALS:
        seen = Seen(distance, most=300)
        RIVALS[name](BUDGET, START, FACTORS, seen, 1)
        reached[name] = min(seen.losses.values())

    assert reached["cma-es"] < 0.01
    assert reached["hill-climb"] < reached["random"] / 2
    assert distance(START) > 3


def test_a_space_that_is_used_up_ends_a_rival() -> None:
    seen = Seen(lambda _: 1.0, most=10)

    for rival in RIVALS.values():
        rival(Budget(2, ((1, 1), (1, 1))), (1, 1), FACTORS, seen, 0)

    assert list(seen.losses) == [(1, 1)]


def test_halving_measures_the_better_half_again_and_sums_what_it_measured() -> None:
    fields: list[list[Allocation]] = []

    def measure(field: list[Allocation], rung: int) -> list[float]:
        fields.append(list(field))
        return [abs(allocation[0] - 3) + (5.0 if rung == 1 and allocation == (3,) else 0.0) for allocation in field]

    winner = halve([(1,), (2,), (3,), (4,), (5,)], measure)

    assert fields == [[(1,), (2,), (3,), (4,), (5,)], [(3,), (2,), (4,)], [(2,), (4,)]]
    assert winner == (2,)
    assert trainings(5) == sum(map(len, fields))


def test_the_best_seen_are_different_allocations() -> None:
    assert best_seen([((1,), 3.0), ((2,), 2.0), ((1,), 1.0), ((3,), 2.5)], most=2) == [(1,), (2,)]


def test_the_incumbent_is_the_best_of_what_was_learnt_from() -> None:
    episodes = [walked(0, (1, 2), 0.5), walked(1, (2, 1), 0.3), walked(2, (0, 3), 0.3), walked(3, (), None)]

    assert incumbent(episodes) == (2, 1)
    assert incumbent(episodes[:1]) == (1, 2)
    assert incumbent([]) == incumbent(episodes[3:]) == ()


def test_a_search_is_exact_repeatable_and_leaves_the_network_as_it_came() -> None:
    told = {"algorithm": "purl-budget", "episodes": 4, "retrain": {"images": 20, "epochs": 1}}
    splits = Splits(some_images(40), some_images(12, seed=1), some_images(0), some_images(0))
    model = digits_net(width=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    one, two = (search(model, splits, sparsity=0.8, settings=Search.model_validate(told)) for _ in range(2))

    assert one.mask.kept == sum(one.allocation) == Budget.of(prunable_layers(model), 0.8).total
    assert one.mask == two.mask
    assert [e.rewards for e in one.episodes] == [e.rewards for e in two.episodes]
    assert len(one.episodes) == 4
    naive = naive_allocations(prunable_layers(model), 0.8)
    assert {allocation for allocation, _ in one.scouted.naive} == set(naive)
    assert [loss for _, loss in one.scouted.naive] == sorted(loss for _, loss in one.scouted.naive)
    assert all(np.array_equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_its_defaults_are_its_own_and_a_part_may_be_changed() -> None:
    plain = Search.model_validate({"algorithm": "purl-budget"})
    changed = Search.model_validate({"algorithm": "purl-budget", "retrain": {"images": 50}, "dense": True})

    assert (plain.alphas, plain.dense, plain.greedy_episodes) == ((0.6, 0.8, 1.0, 1.25, 1.6), False, 1)
    assert (plain.retrain.epochs, plain.retrain.images, plain.agent.gamma) == (5, 1000, 1.0)
    assert (changed.retrain.epochs, changed.retrain.images, changed.dense) == (5, 50, True)
    assert Search.model_validate_json(changed.model_dump_json()) == changed


@pytest.mark.parametrize(
    "change",
    [
        {"reward": "cubic"},
        {"criterion": "magnitude_target"},
        {"state": "simple"},
        {"exact_target": False},
        {"warm_start": True},
        {"accuracy_floor": 0.1, "dense": True},
        {"alphas": [0.0, 1.0]},
    ],
)
def test_an_option_of_the_other_search_is_refused_by_its_name(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        Search.model_validate({"algorithm": "purl-budget", **change})


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"targets": {"sparsity": 0.9}, "stages": [0.5, 0.9]}, "leave stages out"),
        ({"targets": {"flops": 0.5}}, r"give targets\.sparsity"),
    ],
)
def test_a_job_that_it_can_not_do_is_refused_with_the_remedy(change: dict[str, object], remedy: str) -> None:
    body = {"model": {"name": "digits-resnet"}, "search": {"algorithm": "purl-budget"}}

    with pytest.raises(ValidationError, match=remedy):
        JobSpec.model_validate({**body, **change})
