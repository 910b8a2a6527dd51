"""The walk over the layers at a fixed total, as a gymnasium environment beside PruningEnv."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from torch import nn

from purlkit.baselines.lamp import lamp
from purlkit.budget.allocation import Allocation, Budget, allocation_of, log_shares
from purlkit.budget.yardstick import Worth, Yardstick
from purlkit.env import Observation, Walk
from purlkit.pruning.masks import Mask
from purlkit.spec import Search
from purlkit.training.data import Samples

# Shown of a layer's part, as a multiple of its first one: no more than e^4 either way.
FURTHEST = 4.0
LEAST_LOSS = 1e-6  # of which a logarithm is taken
MOST_LOSS = 1e4


def spaces(search: Search, layers: int) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Discrete[np.int64]]:
    """What the walk over so many layers shows, and what it lets choose."""
    box = gymnasium.spaces.Box(-FURTHEST, FURTHEST, (2 * layers,), np.float32)
    return box, gymnasium.spaces.Discrete(len(search.alphas))


class BudgetEnv(gymnasium.Env[Observation, np.int64]):
    """One episode walks the n prunable layers in order; the network always keeps exactly as many weights as its target.

    ## Action
    `Discrete(len(search.alphas))`: action k multiplies what the layer whose turn it is keeps by alphas[k]; the others
    give or take in proportion to what they have, to the last weight (`Budget.move`).

    ## Observation
    `Box(-4, 4, (2n,))`: for each layer the logarithm of what it keeps over what it kept in the search's first
    allocation, then a 1 at the layer whose turn it is (nowhere at the end).

    ## Rewards
    beta times the fall of the loss's logarithm, by the yardstick: they telescope, so that with a discount of 1 an
    episode earns by how much its last allocation is better than its first. Without `dense` only the last step is
    measured and paid. `walk` tells the best allocation measured on the way.

    ## Episode End
    Terminated after the last layer. Never truncated.

    An episode begins at the search's first allocation, `origin` (LAMP's when left out), or at `incumbent`, whichever
    is better. The incumbent may be changed between episodes, as may `retrain_seed`; with the same two the same actions
    have the same rewards. The yardstick looks up what it measured before.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it so

    _allocation: Allocation
    _loss: float
    _walk: Walk

    def __init__(
        self,
        model: nn.Module,
        subset: Samples,
        reward_images: Samples,
        *,
        search: Search,
        target_sparsity: float,
        retrain_seed: int,
        origin: Allocation = (),
        mask: Mask | None = None,
        on_batch: Callable[[], None] | None = None,
        remembered: int = 10_000,
    ) -> None:
        self.yardstick = Yardstick(
            model,
            subset,
            reward_images,
            search.retrain,
            mask=mask,
            remembered=remembered,
            on_batch=on_batch,
            at="/search/retrain",
        )
        self.layers = self.yardstick.layers
        self.search = search
        self.target_sparsity = target_sparsity
        self.incumbent: Allocation = ()
        self.retrain_seed = retrain_seed
        self.may_end_early = True  # what asks for it gets it: no episode ever does
        self.observation_space, self.action_space = spaces(search, len(self.layers))
        self.budget = Budget.of(self.layers, target_sparsity)
        self.origin = origin or allocation_of(lamp(self.layers, target_sparsity), self.layers)
        total = sum(layer.weight.numel() for layer in self.layers)
        self._sparsity = (total - self.budget.total) / total
        self._allocation, self._walk = self.origin, Walk()

    @property
    def allocation(self) -> Allocation:
        """What each layer keeps at this point of the walk."""
        return self._allocation

    @property
    def walk(self) -> Walk:
        """The episode so far. A reset begins a new one."""
        return self._walk

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        began, trained = time.perf_counter(), self.yardstick.trained
        starts = {
            place: self.yardstick(place, self.retrain_seed).loss for place in (self.origin, self.incumbent) if place
        }
        self._allocation = min(starts, key=lambda place: starts[place])
        self._loss = starts[self._allocation]
        seconds = time.perf_counter() - began
        self._walk = Walk(seconds=seconds, steps_computed=self.yardstick.trained - trained)
        return self._observation(), {}

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        index, last = len(self._walk.actions), len(self.layers) - 1
        if index > last:
            raise RuntimeError("the episode has ended: call reset()")
        began, trained = time.perf_counter(), self.yardstick.trained
        self._allocation = self.budget.move(self._allocation, index, self.search.alphas[int(action)])
        measured = self.search.dense or index == last
        before, worth = self._loss, self._measure() if measured else None
        reward = self.search.beta * (_log(before) - _log(worth.loss)) if worth else 0.0
        walk = self._walk
        self._walk = replace(
            walk,
            actions=(*walk.actions, int(action)),
            rewards=(*walk.rewards, reward),
            accuracies=(*walk.accuracies, worth.accuracy if worth else 0.0),
            sparsities=(*walk.sparsities, self._sparsity),
            seconds=walk.seconds + time.perf_counter() - began,
            steps_computed=walk.steps_computed + self.yardstick.trained - trained,
        )
        return self._observation(), reward, index == last, False, {}

    def _measure(self) -> Worth:
        worth = self.yardstick(self._allocation, self.retrain_seed)
        self._loss = worth.loss
        if self._walk.loss is None or worth.loss < self._walk.loss:
            self._walk = replace(self._walk, kept=self._allocation, loss=min(worth.loss, MOST_LOSS))
        return worth

    def _observation(self) -> Observation:
        now, first = np.array(log_shares(self._allocation)), np.array(log_shares(self.origin))
        turn = np.zeros(len(self.layers))
        if (index := len(self._walk.actions)) < len(self.layers):
            turn[index] = 1.0
        return np.concatenate([np.clip(now - first, -FURTHEST, FURTHEST), turn]).astype(np.float32)


def _log(loss: float) -> float:
    return math.log(min(max(loss, LEAST_LOSS), MOST_LOSS))
