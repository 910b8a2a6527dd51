"""A search with real Ray and real RLlib on the landscape, for tests and for what makes it suffer."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
from ray.tune.registry import register_env

from purlkit.results import Episode
from purlkit.spec import Agent
from tests.landscape import Landscape, LandscapeEnv
from workers.dqn import PurlDQN
from workers.dqn_config import dqn_config
from workers.runners import Runners

EPISODES = 20

Players = dict[int, Any]  # actors that a search has left, by their places in it


class Relay(PurlDQN):
    """Begins with the runners that another search has left, and starts what it lacks.

    One takes three CPU seconds to start, and all that it plays by comes with each episode.
    """

    players: Players

    def _starter(self) -> Callable[[int], Any]:
        start = super()._starter()
        move = partial(_move, landscape=self.config.env_config["landscape"], runners=self.size.runners)

        def take(runner: int) -> Any:
            if (player := self.players.pop(runner, None)) is None:
                return start(runner)
            player.apply.remote(move)
            return player

        return take

    def leave(self) -> None:
        """Ends as `stop` does, but for the runners."""
        assert isinstance(self.runners, Runners)
        self.players |= {runner: place.actor for runner, place in self.runners._places.items()}
        self._runners = None
        self.stop()


def _move(runner: Any, *, landscape: Landscape, runners: int) -> None:
    env = runner.env.unwrapped.envs[0].unwrapped
    env.landscape, env.runners = landscape, runners


def built(
    landscape: Landscape = Landscape(),
    *,
    runners: int = 2,
    episodes: int = EPISODES,
    players: Players | None = None,
) -> Relay:
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
    config = dqn_config(
        "landscape",
        env_config,
        agent,
        total_steps=episodes * landscape.layers,
        runners=runners,
        cpus=0.5,
        gpus=0,
        seed=3,
    )
    config.algo_class = Relay
    algorithm: Relay = config.build_algo()
    algorithm.players = {} if players is None else players
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
