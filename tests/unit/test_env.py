"""The walk: what a step cuts, measures and pays, and that the same walk ends in the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import nn

from purlkit.checkpoint import fingerprint
from purlkit.env import PruningEnv, Walk
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.thresholds import keep_above
from purlkit.rewards import capped
from purlkit.spec import Retrain, Search
from purlkit.training.evaluate import accuracy
from tests.unit.networks import digits_net, some_images

ALPHAS = (0.0, 0.5, 1.0)  # fresh weights are uniform: beyond 1.73 deviations there is none
REWARD_IMAGES = some_images(50, seed=2)


def env_of(
    model: nn.Module, *, retrain_seed: int = 5, retrain: Retrain = Retrain(batch_size=20), **options: Any
) -> PruningEnv:
    return PruningEnv(
        model,
        some_images(60, seed=1),
        REWARD_IMAGES,
        search=Search(**{"alphas": ALPHAS, "beta": 3.0, "retrain": retrain, **options}),
        target_accuracy=0.5,
        target_sparsity=0.8,
        retrain_seed=retrain_seed,
    )


def played(env: PruningEnv, actions: tuple[int, ...]) -> str:
    env.reset()
    for action in actions:
        env.step(action)
    return fingerprint(env.model)


def test_it_is_a_gymnasium_environment() -> None:
    check_env(env_of(digits_net(width=2)), skip_render_check=True)  # there is nothing to draw


def test_spaces() -> None:
    env = env_of(digits_net(width=2))

    assert env.observation_space.shape == (20,)
    assert env.action_space.n == 3
    observation, _ = env.reset(seed=0)
    assert observation.tolist() == [0.0] * 20


def test_a_step_cuts_its_layer_retrains_and_pays() -> None:
    model = digits_net(width=4)
    env = env_of(model)
    layer = prunable_layers(model)[0]
    keep = keep_above(layer.weight, 1.0)
    env.reset()

    observation, reward, terminated, truncated, info = env.step(2)

    removed, total = int((~keep).sum()), sum(layer.weight.numel() for layer in prunable_layers(model))
    reached = accuracy(model, REWARD_IMAGES)
    assert 0 < removed < layer.weight.numel()
    assert torch.equal(env.mask.keep[layer.name], keep)
    assert env.mask.total - env.mask.kept == removed
    assert observation[:2].tolist() == pytest.approx([reached, removed / layer.weight.numel()])
    assert not observation[2:].any()
    assert reward == capped(reached, removed / total, 0.5, 0.8, 3.0)
    assert info == {"accuracy": reached, "sparsity": removed / total}
    assert (terminated, truncated) == (False, False)


def test_the_next_layer_is_cut_as_retraining_left_it() -> None:
    model = digits_net(width=4)
    env, second = env_of(model, retrain=Retrain(batch_size=20, learning_rate=0.5)), prunable_layers(model)[1]
    dense = keep_above(second.weight, 1.0)
    env.reset()
    env.step(1)
    now = keep_above(second.weight, 1.0)

    env.step(2)

    assert torch.equal(env.mask.keep[second.name], now)
    assert not torch.equal(now, dense)


def test_what_was_cut_stays_cut_to_the_end_of_the_walk() -> None:
    model = digits_net(width=4)
    env = env_of(model)
    env.reset()
    kept = env.mask.total

    for action in (1, 0, 2, 1, 1, 0, 2, 1, 2, 1):
        env.step(action)
        for layer in prunable_layers(model):
            assert not layer.weight[~env.mask.keep[layer.name]].any()
        assert env.mask.kept <= kept
        kept = env.mask.kept

    assert kept < env.mask.total


def test_alpha_zero_everywhere_prunes_nothing() -> None:
    env = env_of(digits_net(width=2))

    played(env, (0,) * 10)

    assert env.mask.sparsity == 0.0
    assert env.walk.sparsities == (0.0,) * 10


def test_the_walk_ends_after_the_last_layer() -> None:
    env = env_of(digits_net(width=2))
    env.reset()

    ends = [env.step(1)[2] for _ in range(10)]

    assert ends == [False] * 9 + [True]
    with pytest.raises(RuntimeError, match="reset"):
        env.step(1)


def test_the_record_of_a_walk() -> None:
    env = env_of(digits_net(width=2))
    env.reset()

    steps = [env.step(np.int64(action)) for action in (0, 1, 2)]

    walk = env.walk
    assert walk.actions == (0, 1, 2)
    assert walk.rewards == tuple(step[1] for step in steps)
    assert walk.accuracies == tuple(step[4]["accuracy"] for step in steps)
    assert walk.sparsities == tuple(step[4]["sparsity"] for step in steps)
    assert walk.seconds > 0
    env.reset()
    assert env.walk == Walk()


def test_reset_brings_back_every_weight_and_statistic_in_place() -> None:
    model = digits_net(width=4)
    dense, addresses = fingerprint(model), [parameter.data_ptr() for parameter in model.parameters()]
    env = env_of(model)

    assert played(env, (2, 2, 2)) != dense
    env.reset()

    assert fingerprint(model) == dense
    assert [parameter.data_ptr() for parameter in model.parameters()] == addresses
    assert env.mask.sparsity == 0.0


def test_equal_walks_end_in_equal_bits() -> None:
    env = env_of(digits_net(width=4))
    once = played(env, (1, 2, 0, 1))

    played(env, (2, 2))  # whatever came between
    torch.rand(3)

    assert played(env, (1, 2, 0, 1)) == once
    assert played(env_of(digits_net(width=4)), (1, 2, 0, 1)) == once  # on another runner too


def test_the_retraining_seed_may_change_between_episodes() -> None:
    env = env_of(digits_net(width=4), retrain_seed=5)
    once = played(env, (1, 1))

    env.retrain_seed = 6
    assert played(env, (1, 1)) != once
    env.retrain_seed = 5
    assert played(env, (1, 1)) == once


def test_zeros_of_the_given_network_are_removed_already() -> None:
    model = digits_net(width=4)
    layers = prunable_layers(model)
    with torch.no_grad():
        layers[3].weight.zero_()

    env = env_of(model)
    env.reset()
    env.step(0)

    assert env.mask.total - env.mask.kept == layers[3].weight.numel()
    assert not layers[3].weight.any()


def test_every_batch_is_a_sign_of_life() -> None:
    signs: list[int] = []
    env = PruningEnv(
        digits_net(width=2),
        some_images(60, seed=1),
        REWARD_IMAGES,
        search=Search(alphas=ALPHAS, retrain=Retrain(epochs=2, batch_size=20)),
        target_accuracy=0.5,
        target_sparsity=0.8,
        retrain_seed=0,
        on_batch=lambda: signs.append(1),
    )
    env.reset()

    env.step(1)

    assert len(signs) == 2 * 3 + 1  # two epochs of three batches, and the measurement
