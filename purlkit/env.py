"""The walk of PuRL as a gymnasium environment. It only translates: cutting, training and measuring live elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from purlkit.cache import Outcome, TransitionCache
from purlkit.pruning.cost import weight_uses
from purlkit.pruning.flops import share_removed
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.thresholds import CRITERIA
from purlkit.results import Episode, EpisodeKind
from purlkit.rewards import REWARDS, not_reached
from purlkit.seeds import derive
from purlkit.spec import Goal, Search
from purlkit.training.data import Samples
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train

Observation = NDArray[np.float32]


@dataclass(frozen=True)
class Walk:
    """What happened in one episode, one entry for each layer reached; sparsities are the whole network's."""

    actions: tuple[int, ...] = ()
    rewards: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()
    sparsities: tuple[float, ...] = ()
    seconds: float = 0.0
    steps_computed: int = 0
    kept: tuple[int, ...] = ()  # of a walk at a fixed total: the best allocation measured, and its loss
    loss: float | None = None

    def record(
        self, *, index: int, kind: EpisodeKind, weights_version: int, runner: int = 0, rerun: bool = False
    ) -> Episode:
        """The walk with its place in a search, as it is kept and told."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return Episode(index=index, kind=kind, weights_version=weights_version, runner=runner, rerun=rerun, **told)


def spaces(search: Search, layers: int) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Discrete[np.int64]]:
    """What the walk over so many layers shows, and what it lets choose."""
    numbers = 3 if search.state == "simple" else 2 * layers
    return gymnasium.spaces.Box(0.0, 1.0, (numbers,), np.float32), gymnasium.spaces.Discrete(len(search.alphas))


class PruningEnv(gymnasium.Env[Observation, np.int64]):
    """One episode walks the n prunable layers of a trained network in order; one step prunes one layer.

    ## Action
    `Discrete(len(search.alphas))`: action k removes from the layer whose turn it is every weight below alphas[k]
    standard deviations, or with `magnitude_target` the smallest until the share alphas[k] of the layer is gone. The
    network is then retrained on a fixed subset of the training images, what is removed held at zero.

    ## Observation
    `per_layer`: `Box(0, 1, (2n,))`, (a_1, p_1, …, a_n, p_n), the accuracy after layer i and the sparsity of layer i;
    zeros for layers not reached yet. `simple`: `Box(0, 1, (3,))`, (next layer / n, accuracy now, share of all weights
    pruned so far). Zeros at reset. Accuracy is measured on the reward split; where it was not measured it is 0.

    ## Rewards
    After every layer one of `rewards.REWARDS`, from accuracy and the sparsity of the whole network so far. Without
    `dense` only after the last: the others are 0, and the network is neither retrained nor measured before it. With the
    goal `flops` the share of the multiply-adds that is gone takes the place of sparsity, here and in `simple`.

    ## Episode End
    Terminated after the last layer, or once accuracy is under `accuracy_floor`: then the last reward has
    `rewards.not_reached` added. Nothing ends early while `may_end_early` is False. Never truncated.

    The same actions under the same `retrain_seed` end in the same weights bit for bit: a step's seed depends on that
    and on the layer alone. Both attributes may be changed between episodes. The model given is worked on in place;
    `mask` says what is kept of it at the start (its non-zeros when left out), and nothing else is ever revived.

    So a step that was taken before is looked up in a cache of `cache_bytes`. The model then stays behind until a step
    has to be computed; `catch_up` brings it to where the walk stands, as asking for `mask` does.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it so

    # Where the walk stands, and how many of its steps the model and its mask have gone.
    _mask: Mask
    _gone: int
    _walk: Walk
    _observation: Observation
    _ended: bool

    def __init__(
        self,
        model: nn.Module,
        subset: Samples,
        reward_images: Samples,
        *,
        search: Search,
        target_accuracy: float,
        target_sparsity: float,
        goal: Goal = "sparsity",
        retrain_seed: int,
        mask: Mask | None = None,
        on_batch: Callable[[], None] | None = None,
        cache_bytes: int = 0,
    ) -> None:
        self.model = model
        self.layers = prunable_layers(model)
        self.search = search
        self.retrain_seed = retrain_seed
        self.may_end_early = True
        self.incumbent: tuple[int, ...] = ()  # every walk of this kind begins at the network as it came
        self.observation_space, self.action_space = spaces(search, len(self.layers))
        self._subset = subset
        self._reward_images = reward_images
        self._targets = target_accuracy, target_sparsity
        self._uses = weight_uses(model, reward_images[:1].x) if goal == "flops" else None
        self._on_batch = on_batch
        self._cache = TransitionCache(cache_bytes)
        if mask is not None:
            mask.apply(self.layers)
        self._live = [*model.parameters(), *model.buffers()]
        self._first = [tensor.detach().clone() for tensor in self._live]
        self._first_mask = Mask.from_weights(self.layers)
        self._begin()

    @property
    def mask(self) -> Mask:
        """What is kept of the network at this point of the walk."""
        self.catch_up()
        return self._mask

    @property
    def walk(self) -> Walk:
        """The episode so far. A reset begins a new one."""
        return self._walk

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        with torch.no_grad():
            torch._foreach_copy_(self._live, self._first)
        self._begin()
        return self._observation.copy(), {}

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self._ended:
            raise RuntimeError("the episode has ended: call reset()")
        began = time.perf_counter()
        actions = (*self._walk.actions, int(action))
        to_come = len(self.layers) - len(actions)

        outcome = self._cache.outcome((self.retrain_seed, *actions))
        if outcome is None:
            self.catch_up()
            outcome = self._compute(int(action))
        reached, pruned = outcome.accuracy, outcome.sparsity
        paid = self.search.dense or to_come == 0
        saved = pruned if self._uses is None else outcome.flops
        reward = REWARDS[self.search.reward](reached, saved, *self._targets, self.search.beta) if paid else 0.0
        if self._too_bad(reached):
            reward += not_reached(to_come, self.search.beta, self.search.agent.gamma)
            to_come = 0

        self._ended = to_come == 0
        self._observe(len(actions) - 1, outcome)
        self._walk = replace(
            self._walk,
            actions=actions,
            rewards=(*self._walk.rewards, reward),
            accuracies=(*self._walk.accuracies, reached),
            sparsities=(*self._walk.sparsities, pruned),
            seconds=self._walk.seconds + time.perf_counter() - began,
        )
        return self._observation.copy(), reward, self._ended, False, {"accuracy": reached, "sparsity": pruned}

    def catch_up(self) -> None:
        """Brings the model to where the walk stands: from the latest snapshot on the way, else by the steps again."""
        for depth in range(len(self._walk.actions), self._gone, -1):
            if snapshot := self._cache.snapshot((self.retrain_seed, *self._walk.actions[:depth])):
                snapshot.restore(self._live)
                self._mask, self._gone = snapshot.mask, depth
                break
        for action in self._walk.actions[self._gone :]:
            self._compute(action)

    def _compute(self, action: int) -> Outcome:
        """The next step of the model itself."""
        index, last = self._gone, len(self.layers) - 1
        measured = self.search.dense or index == last
        path = (self.retrain_seed, *self._walk.actions[:index], action)
        self._cut(index, action)
        reached = self._retrain_and_measure(index) if measured else 0.0
        self._gone += 1
        kept, weights = self._mask.per_layer[self.layers[index].name]
        flops = 0.0 if self._uses is None else share_removed(self._mask, self._uses)
        outcome = Outcome(reached, self._mask.sparsity, (weights - kept) / weights, flops)
        self._cache.add(path, outcome)
        if self.search.dense and index < last:  # without dense the way there is only cuts; after the last there is none
            self._cache.add_snapshot(path, self._live, self._mask)
        if measured:
            self._walk = replace(self._walk, steps_computed=self._walk.steps_computed + 1)
        return outcome

    def _cut(self, index: int, action: int) -> None:
        layer, alpha = self.layers[index], self.search.alphas[action]
        keep = CRITERIA[self.search.criterion].keep(layer.weight, alpha, self._mask.keep[layer.name])
        self._mask = self._mask.narrow(layer.name, keep)

    def _retrain_and_measure(self, index: int) -> float:
        seed = derive(self.retrain_seed, "retrain", index)
        train(
            self.model,
            self._subset,
            self.search.retrain,
            seed=seed,
            mask=self._mask,
            on_batch=self._on_batch,
            at="/search/retrain",
        )
        return accuracy(self.model, self._reward_images, self._on_batch)

    def _too_bad(self, reached: float) -> bool:
        floor = self.search.accuracy_floor
        return floor is not None and self.may_end_early and reached < floor

    def _observe(self, index: int, outcome: Outcome) -> None:
        if self.search.state == "simple":
            saved = outcome.sparsity if self._uses is None else outcome.flops
            self._observation[:] = (index + 1) / len(self.layers), outcome.accuracy, saved
        else:
            self._observation[2 * index : 2 * index + 2] = outcome.accuracy, outcome.layer_sparsity

    def _begin(self) -> None:
        self._mask, self._gone = self._first_mask, 0
        self._observation = np.zeros(self.observation_space.shape or (), np.float32)
        self._ended = False
        self._walk = Walk()
