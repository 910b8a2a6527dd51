"""The walk at a fixed total: what it pays, where it begins, and that it never leaves the total."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from purlkit.budget.env import BudgetEnv
from purlkit.budget.yardstick import Yardstick
from purlkit.spec import Search
from tests.unit.networks import digits_net, some_images

LAYERS = 10


def walk_env(**changes: Any) -> BudgetEnv:
    told = {"algorithm": "purl-budget", "retrain": {"images": 20, "epochs": 1}, **changes}
    search = Search.model_validate(told)
    return BudgetEnv(
        digits_net(width=2),
        some_images(20),
        some_images(12, seed=1),
        search=search,
        target_sparsity=0.8,
        retrain_seed=0,
    )


def played(env: BudgetEnv, *actions: int) -> list[float]:
    env.reset()
    return [env.step(action)[1] for action in actions]


@pytest.mark.filterwarnings("ignore:.*not within the observation space:UserWarning")
def test_it_is_an_environment_by_gymnasium_s_own_checks() -> None:
    check_env(walk_env(), skip_render_check=True)


def test_rewards_telescope_from_the_first_allocation_to_the_last() -> None:
    env = walk_env(dense=True, beta=2.0)
    first = env.yardstick(env.origin, 0).loss

    rewards = played(env, *range(5), *range(5))

    last = env.yardstick(env.allocation, 0).loss
    assert sum(rewards) == pytest.approx(2.0 * math.log(first / last))


def test_only_the_last_step_is_measured_and_paid_without_dense() -> None:
    env = walk_env()

    rewards = played(env, *[1] * LAYERS)

    assert rewards[:-1] == [0.0] * (LAYERS - 1)
    assert rewards[-1] != 0
    assert env.yardstick.trained == 2  # where it began and where it ended
    assert (env.walk.kept, env.walk.loss) == (env.allocation, env.yardstick(env.allocation, 0).loss)


def test_a_walk_took_what_measuring_its_beginning_took_too(monkeypatch: pytest.MonkeyPatch) -> None:
    env = walk_env()
    clock = iter(range(100))
    monkeypatch.setattr("purlkit.budget.env.time.perf_counter", lambda: next(clock))

    env.reset()

    assert (env.walk.seconds, env.walk.steps_computed) == (1, 1)


def test_the_total_is_kept_at_every_step_and_told() -> None:
    env = walk_env()
    env.reset()

    for action in (0, 4) * (LAYERS // 2):
        env.step(action)

        assert sum(env.allocation) == env.budget.total
    assert set(env.walk.sparsities) == {env.yardstick.mask_of(env.allocation).sparsity}


def test_an_allocation_seen_before_is_looked_up() -> None:
    env = walk_env(dense=True)
    first = played(env, *[3] * LAYERS)
    trained = env.yardstick.trained

    again = played(env, *[3] * LAYERS)

    assert again == first
    assert env.yardstick.trained == trained
    assert env.walk.steps_computed == 0


def test_a_walk_begins_at_the_incumbent_if_that_is_better_than_the_origin() -> None:
    env = walk_env()
    env.reset()
    other = env.budget.move(env.origin, 0, 0.6)
    better = env.yardstick(other, 0).loss < env.yardstick(env.origin, 0).loss

    env.incumbent = other
    observation, _ = env.reset()

    assert env.allocation == (other if better else env.origin)
    env.origin, env.incumbent = other, env.origin
    env.reset()
    assert env.allocation == (other if better else env.incumbent)
    assert observation[:LAYERS].any() == better


def test_what_it_shows_is_the_layers_parts_and_whose_turn_it_is() -> None:
    env = walk_env()
    env.reset()

    observation, *_ = env.step(4)

    parts = np.log(np.array(env.allocation) / np.array(env.origin))
    assert observation[:LAYERS] == pytest.approx(parts, abs=1e-6)
    assert observation[LAYERS:].tolist() == [0, 1, *[0] * 8]


def test_the_yardstick_leaves_the_network_as_it_came_and_forgets_beyond_its_memory() -> None:
    model = digits_net(width=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    yardstick = Yardstick(model, some_images(20), some_images(12, seed=1), walk_env().search.retrain, remembered=1)
    one, two = (walk_env().budget.move(walk_env().origin, 0, factor) for factor in (0.6, 1.6))

    worths = [yardstick(allocation, 0) for allocation in (one, two, two, one)]

    assert yardstick.trained == 3
    assert worths[0] == worths[3]
    assert all((tensor == before[name]).all() for name, tensor in model.state_dict().items())
