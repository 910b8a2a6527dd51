"""A relabelled episode is what the same walk would have been for the other target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from purlkit.agent.relabel import relabelled
from purlkit.agent.replay import Floats, steps_of
from purlkit.env import PruningEnv
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.results import Episode
from purlkit.spec import Retrain, Search
from tests.unit.networks import digits_net, some_images

ACTIONS = [3, 0, 5, 1, 4, 2, 6, 0, 3, 5]
RETRAIN = Retrain(images=20, batch_size=20)


def env_of(search: Search, target_sparsity: float) -> PruningEnv:
    model, images = digits_net(width=2), some_images(40)
    alive = Mask({layer.name: layer.weight.detach().abs() > 0.02 for layer in prunable_layers(model)})
    return PruningEnv(
        model,
        images[:20],
        images[20:],
        search=search,
        target_accuracy=0.4,
        target_sparsity=target_sparsity,
        retrain_seed=1,
        mask=alive,
    )


def walk(env: PruningEnv) -> tuple[Floats, Episode]:
    seen, ended = [env.reset()[0]], False
    while not ended:
        observation, _, ended, _, _ = env.step(ACTIONS[len(env.walk.actions)])
        seen.append(observation)
    return np.stack(seen), env.walk.record(index=0, kind="search", weights_version=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"state": "simple", "reward": "upside"},
        {"dense": False},
        {"accuracy_floor": 0.99},
        {"reward": "cubic", "beta": 3.0},
    ],
)
def test_the_steps_are_those_that_the_other_target_would_have_given(options: dict[str, Any]) -> None:
    search = Search(retrain=RETRAIN, **options)
    here, there = env_of(search, 0.5), env_of(search, 0.9)
    weights = [(int(layer.weight.count_nonzero()), layer.weight.numel()) for layer in here.layers]
    _, played = walk(here)

    steps = relabelled(played, weights, search, target_accuracy=0.4, target_sparsity=0.9)

    observations, episode = walk(there)
    expected = steps_of(observations, episode.actions, episode.rewards, terminated=True)
    assert played.rewards != episode.rewards
    assert len(steps) == len(expected)
    for ours, theirs in zip(steps, expected, strict=True):
        assert np.array_equal(ours.observation, theirs.observation)
        assert np.array_equal(ours.next_observation, theirs.next_observation)
        assert (ours.action, ours.reward, ours.terminated) == (theirs.action, theirs.reward, theirs.terminated)
