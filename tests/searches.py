"""A search with real Ray and real RLlib on the landscape, for tests and for what makes it suffer."""

from __future__ import annotations

import os
from typing import Any

import ray
from ray.tune.registry import register_env

from purlkit.results import Episode
from purlkit.spec import Agent
from tests.landscape import Landscape, LandscapeEnv
from workers.dqn import PurlDQN
from workers.dqn_config import dqn_config

EPISODES = 20


def built(landscape: Landscape = Landscape(), *, runners: int = 2, episodes: int = EPISODES) -> PurlDQN:
    agent = Agent(batch_size=8, buffer_steps=40)
    register_env(
        "landscape",
        lambda config: LandscapeEnv(config["landscape"], runner=config.worker_index, runners=config.num_workers),
    )
    env_config = {
        "landscape": landscape,
        "agent": agent.model_dump(),
        "seed": 3,
        "layers": landscape.layers,
        "episodes": episodes,
        "lookahead": 2,
    }
    algorithm: PurlDQN = dqn_config(
        "landscape",
        env_config,
        agent,
        total_steps=episodes * landscape.layers,
        runners=runners,
        cpus=0.5,
        gpus=0,
        seed=3,
    ).build_algo()
    return algorithm


def what_was_done(episodes: list[Episode]) -> list[tuple[Any, ...]]:
    """All of an episode but when, where and whether again."""
    return [(e.index, e.actions, e.rewards, e.weights_version) for e in episodes]


def all_here(algorithm: PurlDQN) -> None:
    """A search begins with its first runner: some tests want the others too."""
    while algorithm.runners.here < algorithm.size.runners:
        algorithm.runners.wait(0.5)


def pid_of(algorithm: PurlDQN, *, runner: int) -> int:
    """Of one that is there and plays nothing yet: the question would wait for the end of an episode."""
    actor = algorithm.runners._places[runner].actor
    return int(ray.get(actor.apply.remote(lambda _: os.getpid()), timeout=60))


def play_to_the_end(algorithm: PurlDQN) -> list[Episode]:
    while not algorithm.search_done:
        algorithm.train()
    return algorithm.learnt.episodes
