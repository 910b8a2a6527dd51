"""A stand-in for the walk whose best policy is known: no training, so that tests of the search take seconds.

It has what the search asks of a PruningEnv: `walk`, `layers`, `retrain_seed`, `may_end_early`, `incumbent`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch

from purlkit.env import Walk


@dataclass(frozen=True)
class Landscape:
    layers: int = 5
    actions: int = 12
    sleep_seconds: float = 0.0
    fails_at: int | None = None  # the layer whose step raises
    fails_until: str | None = None  # … until this file is there: the first to raise makes it
    fails_to_start: bool = False
    holds: int | None = None  # more runners than this are out of memory
    cliff: int | None = None  # the action from which on an episode falls off and ends early
    gate: str | None = None  # a folder: while `closed` is in it a step stands there, and leaves its process id

    @property
    def best(self) -> list[int]:
        return [1 + (7 * layer + 3) % (self.actions - 2) for layer in range(self.layers)]


class LandscapeEnv(gymnasium.Env[Any, Any]):
    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it so

    def __init__(self, landscape: Landscape, *, runner: int = 0, runners: int = 1) -> None:
        if landscape.fails_to_start and runner > 0:
            raise RuntimeError("there is no such landscape")
        self.landscape = landscape
        self.runners = runners
        self.layers = [SimpleNamespace(name=f"layer{i}") for i in range(landscape.layers)]
        self.retrain_seed = 0
        self.may_end_early = True
        self.incumbent: tuple[int, ...] = ()
        self.walk = Walk()
        self.observation_space = gymnasium.spaces.Box(0, 1, (2 * landscape.layers,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(landscape.actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed, options=options)
        self.walk = Walk()
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        index = len(self.walk.actions)
        if index == self.landscape.fails_at and not self._mended():
            raise RuntimeError("the landscape gave way")
        if self.landscape.holds is not None and self.runners > self.landscape.holds:
            raise torch.OutOfMemoryError("the landscape is full")
        time.sleep(self.landscape.sleep_seconds)
        self._pass_the_gate()
        reward = -abs(int(action) - self.landscape.best[index]) / (self.landscape.actions - 1)
        walk = self.walk
        self.walk = replace(
            walk,
            actions=(*walk.actions, int(action)),
            rewards=(*walk.rewards, reward),
            accuracies=(*walk.accuracies, 1 + reward),
            sparsities=(*walk.sparsities, 0.5),
            seconds=walk.seconds + self.landscape.sleep_seconds,
        )
        fell = self.landscape.cliff is not None and self.may_end_early and int(action) >= self.landscape.cliff
        return self._observation(), reward, fell or index + 1 == self.landscape.layers, False, {}

    def _pass_the_gate(self) -> None:
        gate = Path(self.landscape.gate or "/no gate")
        while (gate / "closed").exists():
            (gate / str(os.getpid())).touch()
            time.sleep(0.02)

    def _mended(self) -> bool:
        if self.landscape.fails_until is None:
            return False
        marker = Path(self.landscape.fails_until)
        mended = marker.exists()
        marker.touch()
        return mended

    def _observation(self) -> Any:
        observation = np.zeros(2 * self.landscape.layers, np.float32)
        for index, action in enumerate(self.walk.actions):
            observation[2 * index : 2 * index + 2] = 1.0, action / (self.landscape.actions - 1)
        return observation
