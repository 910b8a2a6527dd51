"""A step looked up is a step computed: the same numbers, the same bits, within any number of bytes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from purlkit import search
from purlkit.cache import Outcome, TransitionCache
from purlkit.checkpoint import fingerprint
from purlkit.env import PruningEnv
from purlkit.pruning.masks import Mask
from purlkit.spec import Retrain, Search
from purlkit.training.data import Splits
from tests.unit.networks import digits_net, some_images

QUICK = Retrain(images=20, batch_size=10)
ADAM = QUICK.model_copy(update={"optimizer": "adam", "learning_rate": 0.01})
TRAIN, REWARD = some_images(20, seed=1), some_images(20, seed=2)


def env_of(cache_bytes: int, options: dict[str, Any], mask: Mask | None = None) -> PruningEnv:
    return PruningEnv(
        digits_net(width=2),
        TRAIN,
        REWARD,
        search=Search(**{"alphas": (0.0, 1.0), "retrain": QUICK, **options}),
        target_accuracy=0.5,
        target_sparsity=0.8,
        retrain_seed=0,
        mask=mask,
        cache_bytes=cache_bytes,
    )


def played(env: PruningEnv, actions: list[int], retrain_seed: int, *, looked_at: int | None = None) -> list[Any]:
    """All that anyone can see of a walk, and every weight and statistic at its end."""
    env.retrain_seed = retrain_seed
    seen: list[Any] = [env.reset()[0].tolist()]
    for turn, action in enumerate(actions):
        observation, *rest = env.step(action)
        seen.append((observation.tolist(), *rest))
        if turn == looked_at:
            seen.append((env.mask.sha256, fingerprint(env.model)))
        if rest[1]:
            break
    env.catch_up()
    walk = env.walk
    return [
        *seen,
        walk.actions,
        walk.rewards,
        walk.accuracies,
        walk.sparsities,
        env.mask.sha256,
        fingerprint(env.model),
    ]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"retrain": ADAM},
    {"dense": False},
    {"dense": False, "state": "simple"},
    {"accuracy_floor": 0.1},
    {"criterion": "magnitude_target", "alphas": (0.0, 0.6)},
]
# A width of 2 has about 1,700 parameters and statistics: a snapshot is 8 KB, an outcome half of one.
BYTES = st.sampled_from([0, 450, 1_000, 10_000, 20_000, 1_000_000])
# The first layers alike and short, so that prefixes repeat, branch, and walks are left before their end.
WALKS = st.lists(
    st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=4), st.integers(0, 1), st.none() | st.integers(0, 3)),
    min_size=2,
    max_size=5,
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(max_examples=6)
@given(walks=WALKS, cache_bytes=BYTES)
def test_any_walks_are_the_same_bits_with_and_without(options: dict[str, Any], walks: Any, cache_bytes: int) -> None:
    plain, cached = env_of(0, options), env_of(cache_bytes, options)

    for actions, retrain_seed, looked_at in walks:
        expected = played(plain, actions, retrain_seed, looked_at=looked_at)
        assert played(cached, actions, retrain_seed, looked_at=looked_at) == expected
        assert cached._cache.bytes <= cache_bytes


@pytest.mark.parametrize("dense", [True, False])
def test_a_whole_walk_again_costs_no_training_and_a_branch_only_what_is_new(dense: bool) -> None:
    env = env_of(10**6, {"dense": dense})
    played(env, [1] * 10, 0)
    assert env.walk.steps_computed == (10 if dense else 1)

    env.reset()
    for _ in range(10):
        env.step(1)
    assert env.walk.steps_computed == 0

    env.reset()
    for action in (1, 1, 1, 1, 1, 1, 1, 1, 0, 0):
        env.step(action)
    assert env.walk.steps_computed == (2 if dense else 1)


def test_without_room_for_snapshots_a_branch_computes_its_way_again_and_a_repeat_still_nothing() -> None:
    env = env_of(6_000, {})  # outcomes alone
    for actions, computed in (([1] * 10, 10), ([1] * 10, 0), ([1] * 9 + [0], 10)):
        env.reset()
        for action in actions:
            env.step(action)
        assert env.walk.steps_computed == computed


def test_greedy_walks_with_seeds_of_their_own_are_never_taken_for_each_other() -> None:
    env = env_of(10**6, {})

    assert played(env, [1, 1], 1) != played(env, [1, 1], 2)
    assert env.walk.steps_computed == 2


def test_a_lookup_leaves_every_generator_as_a_step_does() -> None:
    env = env_of(10**6, {})

    def after() -> list[Any]:
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        env.reset()
        env.step(1)
        return [random.random(), np.random.random(), float(torch.rand(()))]

    computed, looked_up = after(), after()

    assert env.walk.steps_computed == 0
    assert looked_up == computed


def test_a_later_stage_never_revives_what_the_earlier_removed() -> None:
    model = digits_net(width=2)
    mask = Mask.from_weights(env_of(0, {}).layers)
    first = next(iter(mask.keep))
    keep = mask.keep[first].clone()
    keep.view(-1)[:5] = False
    plain, cached = (env_of(n, {}, mask.narrow(first, keep)) for n in (0, 10**6))

    for actions in ([1, 0], [1, 0], [1, 1]):
        assert played(cached, actions, 0) == played(plain, actions, 0)
    assert not (cached.mask.keep[first] & ~keep).any()
    assert fingerprint(model) == fingerprint(digits_net(width=2))


def test_a_search_is_the_same_with_and_without_and_trains_on_less() -> None:
    # Few actions and no exploration after the first episodes: the walks repeat.
    chosen = Search(episodes=12, greedy_episodes=2, retrain=QUICK, alphas=(0.0, 1.0), beta=2.0)
    splits = Splits(*(some_images(n, seed=n) for n in (60, 30, 20, 10)))

    with_cache, without = (
        search(digits_net(width=2), splits, sparsity=0.5, settings=chosen, seed=1, cache_bytes=n) for n in (10**8, 0)
    )

    def done(result: Any) -> list[Any]:
        return [e.model_dump(exclude={"seconds", "steps_computed"}) for e in [*result.episodes, *result.greedy]]

    assert done(with_cache) == done(without)
    assert (with_cache.mask, with_cache.alphas) == (without.mask, without.alphas)
    assert without.images == 14 * 10 * 20
    assert with_cache.images == 20 * sum(e.steps_computed for e in [*with_cache.episodes, *with_cache.greedy])
    assert with_cache.images < without.images


def a_mask(n: int) -> Mask:
    return Mask({"a": torch.ones(n, dtype=torch.bool)})


def a_cache(*paths: tuple[int, ...]) -> TransitionCache:
    """Room for two snapshots of 1,000 bytes and four outcomes of less than 500, with these in it."""
    cache = TransitionCache(3_800)
    for path in paths:
        cache.add(path, Outcome(0.5, 0.5, 0.5))
        cache.add_snapshot(path, [torch.zeros(200)], a_mask(200))
    return cache


def kept(cache: TransitionCache, *paths: tuple[int, ...]) -> list[bool]:
    return [cache.snapshot(path) is not None for path in paths]


def test_the_deepest_snapshot_goes_first() -> None:
    deep, middle, shallow = (0, 1, 1, 1), (0, 1, 1), (0, 1)

    assert kept(a_cache(deep, middle, shallow), deep, middle, shallow) == [False, True, True]
    assert kept(a_cache(middle, shallow, deep), deep, middle, shallow) == [False, True, True]
    cache = a_cache(deep, middle, shallow)
    assert all(cache.outcome(path) is not None for path in (deep, middle, shallow))
    assert cache.bytes == 2_000 + sum(400 + 8 * len(path) for path in (deep, middle, shallow))


def test_of_equally_deep_snapshots_goes_what_was_longest_without_use() -> None:
    cache = a_cache((0, 0), (0, 1))
    cache.outcome((0, 0))

    cache.add_snapshot((0, 2), [torch.zeros(200)], a_mask(200))

    assert kept(cache, (0, 0), (0, 1), (0, 2)) == [True, False, True]


def test_outcomes_go_last_and_the_longest_unused_first() -> None:
    cache = a_cache((0, 0))
    cache.outcome((0, 0))
    paths = [(1, i) for i in range(10)]  # there is room for nine

    for path in paths:
        cache.add(path, Outcome(0.5, 0.5, 0.5))

    assert kept(cache, (0, 0)) == [False]
    assert cache.outcome((0, 0)) is None
    assert [cache.outcome(path) is not None for path in paths] == [False, *[True] * 9]
    assert cache.bytes == 9 * 416


def test_what_can_never_fit_costs_nothing_that_is_there() -> None:
    cache = TransitionCache(1_000)
    cache.add((0, 0), Outcome(0.5, 0.5, 0.5))

    cache.add_snapshot((0, 0), [torch.zeros(1000)], a_mask(1000))

    assert cache.outcome((0, 0)) is not None
    assert cache.snapshot((0, 0)) is None
