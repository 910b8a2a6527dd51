"""One episode, as it is sent to an env runner and as it comes back."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from purlkit.agent.replay import Floats, Step, steps_of
from purlkit.results import Episode, EpisodeKind

Weights = dict[str, Any]


@dataclass(frozen=True)
class PlayEpisode:
    """Runs inside an env runner: one whole episode, with this policy, this seed, this place in the search."""

    index: int
    kind: EpisodeKind
    seed: int
    retrain_seed: int
    steps_before: int
    version: int
    weights: Weights
    rerun: bool = False

    def __call__(self, runner: Any) -> Played | Failed:
        env = runner.env.unwrapped.envs[0].unwrapped
        try:
            runner.module.set_state(self.weights)
            runner.module.steps_before = self.steps_before
            runner._seed = self.seed
            env.retrain_seed = self.retrain_seed
            env.may_end_early = self.kind == "search"
            random.seed(self.seed)
            np.random.seed(self.seed % 2**32)
            torch.manual_seed(self.seed)
            [played] = runner.sample(num_episodes=1, explore=self.kind == "search")
            runner.get_metrics()
        except Exception as error:
            layer = env.layers[min(len(env.walk.actions), len(env.layers) - 1)].name
            cause = error.__cause__ or error  # RLlib puts an empty error of its own around the environment's
            return Failed(self.index, layer, f"{type(cause).__name__}: {cause}")
        episode = env.walk.record(
            index=self.index,
            kind=self.kind,
            runner=runner.worker_index,
            weights_version=self.version,
            rerun=self.rerun,
        )
        return Played(
            self.index, episode, np.asarray(played.get_observations(), np.float32), bool(played.is_terminated)
        )


@dataclass(frozen=True)
class Played:
    index: int
    episode: Episode
    observations: Floats  # one more than there are steps
    terminated: bool

    def steps(self) -> list[Step]:
        return steps_of(self.observations, self.episode.actions, self.episode.rewards, self.terminated)


@dataclass(frozen=True)
class Failed:
    index: int
    layer: str
    error: str
