"""One episode, as it is sent to an env runner and as it comes back."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from purlkit.agent.replay import Floats, Step, steps_of
from purlkit.errors import EnvironmentFailed, OutOfMemory, PurlError, place_of
from purlkit.results import Episode, EpisodeKind, ErrorReport

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
    incumbent: tuple[int, ...] = ()  # where a walk at a fixed total begins

    def __call__(self, runner: Any) -> Played | Failed:
        env = runner.env.unwrapped.envs[0].unwrapped
        try:
            runner.module.set_state(self.weights)
            runner.module.steps_before = self.steps_before
            runner._seed = self.seed
            env.retrain_seed = self.retrain_seed
            env.may_end_early = self.kind == "search"
            env.incumbent = self.incumbent
            random.seed(self.seed)
            np.random.seed(self.seed % 2**32)
            torch.manual_seed(self.seed)
            [played] = runner.sample(num_episodes=1, explore=self.kind == "search")
            runner.get_metrics()
        except Exception as error:
            layer = env.layers[min(len(env.walk.actions), len(env.layers) - 1)].name
            # RLlib puts an empty error of its own around the environment's.
            return Failed(layer, _report(error.__cause__ or error))
        episode = env.walk.record(
            index=self.index,
            kind=self.kind,
            runner=runner.worker_index,
            weights_version=self.version,
            rerun=self.rerun,
        )
        return Played(episode, np.asarray(played.get_observations(), np.float32), bool(played.is_terminated))


@dataclass(frozen=True)
class Played:
    episode: Episode
    observations: Floats  # one more than there are steps
    terminated: bool

    def steps(self) -> list[Step]:
        return steps_of(self.observations, self.episode.actions, self.episode.rewards, self.terminated)


@dataclass(frozen=True)
class Failed:
    """What the environment raised, as data: not every exception survives the way to the driver."""

    layer: str
    error: ErrorReport


def _report(error: BaseException) -> ErrorReport:
    code, at = EnvironmentFailed.code, None
    if isinstance(error, torch.OutOfMemoryError):
        code = OutOfMemory.code
    elif isinstance(error, PurlError):
        code, at = error.code, error.at
    message = f"{type(error).__name__}: {error}"[:5000]
    return ErrorReport(code=code, message=message, at=at, where=place_of(error))
