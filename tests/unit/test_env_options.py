"""Every option of the walk on a network small enough for paper and pencil.

Two linear layers of four weights; retraining at a rate of 1e-30 changes none of them. Layer one has sigma √20 and the
weights ±2 and ±6, layer two √5 and ±1 and ±3. Of four images three are right (A = 0.75) while something of each layer
is left; with a layer empty every answer is class 0, which is right for two (A = 0.5). Targets: 0.5 and 0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import nn

from purlkit.env import PruningEnv
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.spec import Agent, Retrain, Search
from purlkit.training.data import Images

IMAGES = Images(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]), torch.tensor([0, 1, 1, 0]))
HALF, ALL = 1, 2  # actions: 0.5 sigma removes the smaller two weights of a layer, 1.4 sigma all four


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[6.0, -2.0], [2.0, -6.0]]))
        model[1].weight.copy_(torch.tensor([[3.0, 1.0], [-1.0, -3.0]]))
    return model


def env_of(
    model: nn.Module | None = None,
    mask: Mask | None = None,
    on_batch: Callable[[], None] | None = None,
    **options: Any,
) -> PruningEnv:
    search = Search(**{"alphas": (0.0, 0.5, 1.4), "retrain": Retrain(learning_rate=1e-30), **options})
    env = PruningEnv(
        model or network(),
        IMAGES,
        IMAGES,
        search=search,
        target_accuracy=0.5,
        target_sparsity=0.5,
        retrain_seed=0,
        mask=mask,
        on_batch=on_batch,
    )
    env.reset()
    return env


@pytest.mark.parametrize("options", [{"state": "simple"}, {"dense": False}, {"accuracy_floor": 0.6}])
def test_it_is_a_gymnasium_environment_with_any_option(options: dict[str, Any]) -> None:
    check_env(env_of(**options), skip_render_check=True)


def test_state_per_layer() -> None:
    env = env_of()

    assert env.step(HALF)[0].tolist() == [0.75, 0.5, 0, 0]
    assert env.step(ALL)[0].tolist() == [0.75, 0.5, 0.5, 1]


def test_state_simple() -> None:
    env = env_of(state="simple")

    assert env.reset()[0].tolist() == [0, 0, 0]
    assert env.step(HALF)[0].tolist() == [0.5, 0.75, 0.25]  # half way, A, 2 of 8 weights
    assert env.step(ALL)[0].tolist() == [1, 0.5, 0.75]


@pytest.mark.parametrize(
    ("reward", "first", "last"),
    [
        ("capped", -0.5, 0.0),  # P/T_P = 0.5; then both targets are met
        ("upside", 0.0, 0.0),  # A/T_A = 1.5 earns 0.5 as well
        ("cubic", 1.875, 0.0),  # 1.5³ - 1 = 2.375
    ],
)
def test_reward(reward: str, first: float, last: float) -> None:
    env = env_of(reward=reward, beta=2.0)

    assert env.step(HALF)[1] == 2 * first
    assert env.step(ALL)[1] == 2 * last


def test_without_dense_only_the_last_step_trains_measures_and_pays() -> None:
    batches: list[int] = []
    env = env_of(dense=False, on_batch=lambda: batches.append(1))

    observation, reward, *_ = env.step(HALF)
    assert (observation.tolist(), reward, batches) == ([0, 0.5, 0, 0], 0.0, [])
    observation, reward, *_ = env.step(0)
    assert (observation.tolist(), reward) == ([0, 0.5, 0.75, 0], -0.5)
    assert len(batches) == 2  # one of training, one of measuring
    assert env.walk.accuracies == (0.0, 0.75)
    assert env.walk.sparsities == (0.25, 0.25)


def test_without_dense_a_simple_state_has_no_accuracy_yet() -> None:
    assert env_of(dense=False, state="simple").step(HALF)[0].tolist() == [0.5, 0, 0.25]


def test_an_episode_under_the_floor_ends_and_pays_for_the_layers_not_reached() -> None:
    env = env_of(accuracy_floor=0.6, beta=3.0, agent=Agent(gamma=0.5))

    _, reward, terminated, truncated, _ = env.step(ALL)

    assert (terminated, truncated) == (True, False)
    assert reward == -3.0  # both targets are met; -2 beta for the other layer, one step later
    with pytest.raises(RuntimeError, match="reset"):
        env.step(0)
    env.reset()
    assert env.step(HALF)[2] is False


def test_the_last_layer_has_none_after_it_to_pay_for() -> None:
    env = env_of(accuracy_floor=0.6)
    env.step(0)

    assert env.step(ALL)[1:3] == (0.0, True)


def test_accuracy_at_the_floor_is_not_under_it() -> None:
    assert env_of(accuracy_floor=0.5).step(ALL)[2] is False


def test_a_greedy_episode_never_ends_early() -> None:
    env = env_of(accuracy_floor=0.6)
    env.may_end_early = False

    assert env.step(ALL)[1:3] == (0.0, False)
    assert env.step(0)[2] is True


def test_magnitude_target_cuts_a_share_of_the_layer() -> None:
    env = env_of(criterion="magnitude_target", alphas=(0.0, 0.25, 0.75))

    env.step(1)
    env.step(2)

    first, second = (keep.int().tolist() for keep in env.mask.keep.values())
    assert first == [[1, 1], [0, 1]]  # of the equal -2 and 2 the first stays
    assert second == [[1, 0], [0, 0]]


def test_what_the_given_mask_removed_is_gone_whatever_its_weight() -> None:
    model = network()
    layers = prunable_layers(model)
    mask = Mask.dense(layers).narrow("0", torch.tensor([[False, True], [True, True]]))

    env = env_of(model, mask)

    assert layers[0].weight.tolist() == [[0, -2], [2, -6]]
    assert env.mask.sparsity == 0.125
    env.step(0)
    assert env.mask == mask
    env.reset()
    assert env.mask == mask
