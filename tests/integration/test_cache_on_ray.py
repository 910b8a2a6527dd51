"""RLlib's runners with a cache of steps and without: the same search, with less training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ray.tune.registry import register_env

from purlkit.env import PruningEnv
from purlkit.results import Episode
from purlkit.spec import Agent, Retrain, Search
from tests.unit.networks import digits_net, some_images
from workers import cluster
from workers.dqn import PurlDQN
from workers.dqn_config import dqn_config

pytestmark = pytest.mark.filterwarnings("default")  # RLlib's own deprecations are not ours to mend

EPISODES = 8
SEARCH = Search(alphas=(0.0, 1.0), retrain=Retrain(images=40, batch_size=20), agent=Agent(batch_size=8))


@pytest.fixture(scope="module", autouse=True)
def a_ray() -> Iterator[None]:
    with cluster.connected(""):
        yield


def make_env(config: Any) -> PruningEnv:
    torch.set_num_threads(1)
    return PruningEnv(
        digits_net(width=2),
        some_images(40, seed=1),
        some_images(30, seed=2),
        search=SEARCH,
        target_accuracy=0.5,
        target_sparsity=0.8,
        retrain_seed=0,
        cache_bytes=config["cache_bytes"],
    )


def built(cache_bytes: int) -> PurlDQN:
    register_env("cached-walk", make_env)
    config = {
        "cache_bytes": cache_bytes,
        "agent": SEARCH.agent.model_dump(),
        "seed": 3,
        "layers": 10,
        "episodes": EPISODES,
        "lookahead": 2,
    }
    algorithm: PurlDQN = dqn_config(
        "cached-walk", config, SEARCH.agent, total_steps=EPISODES * 10, runners=1, cpus=0.5, gpus=0, seed=3
    ).build_algo()
    return algorithm


def everything_but_the_cost(episodes: list[Episode]) -> list[dict[str, Any]]:
    return [episode.model_dump(exclude={"seconds", "steps_computed", "runner"}) for episode in episodes]


def test_the_search_is_the_same_with_a_cache_and_without() -> None:
    told, computed = [], []
    for cache_bytes in (10**7, 0):
        algorithm = built(cache_bytes)
        while not algorithm.search_done:
            algorithm.train()
        greedy = algorithm.play_greedy(2, on_wait=lambda: None)
        told.append(everything_but_the_cost(algorithm.learnt.episodes + greedy))
        computed.append(sum(episode.steps_computed for episode in algorithm.learnt.episodes + greedy))
        algorithm.stop()

    assert told[0] == told[1]
    assert computed[1] == (EPISODES + 2) * 10
    assert computed[0] < computed[1]
