"""The walk of PuRL as a gymnasium environment. It only translates: cutting, training and measuring live elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.thresholds import keep_above
from purlkit.rewards import capped
from purlkit.seeds import derive
from purlkit.spec import Training
from purlkit.training.data import Images
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


class PruningEnv(gymnasium.Env[Observation, np.int64]):
    """One episode walks the n prunable layers of a trained network in order; one step prunes one layer.

    ## Action
    `Discrete(len(alphas))`: action k removes from the layer whose turn it is every weight below alphas[k] standard
    deviations. The network is then retrained on a fixed subset of the training images, what is removed held at zero.

    ## Observation
    `Box(0, 1, (2n,))`: (a_1, p_1, …, a_n, p_n), the accuracy after layer i and the sparsity of layer i; zeros for
    layers not reached yet. Accuracy is measured on the reward split.

    ## Rewards
    After every layer `rewards.capped`: 0 if accuracy and the sparsity of the whole network so far meet their targets,
    less for each that falls short.

    ## Episode End
    Terminated after the last layer; never truncated.

    The same actions under the same `retrain_seed` end in the same weights bit for bit: a step's seed depends on that
    and on the layer alone. `retrain_seed` may be changed between episodes. The model given is worked on in place.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it so

    # Where the walk stands.
    _mask: Mask
    _walk: Walk
    _observation: Observation

    def __init__(
        self,
        model: nn.Module,
        subset: Images,
        reward_images: Images,
        *,
        alphas: Sequence[float],
        target_accuracy: float,
        target_sparsity: float,
        beta: float,
        retrain: Training,
        retrain_seed: int,
        on_batch: Callable[[], None] | None = None,
    ) -> None:
        self.model = model
        self.layers = prunable_layers(model)
        self.alphas = tuple(alphas)
        self.retrain_seed = retrain_seed
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (2 * len(self.layers),), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(self.alphas))
        self._subset = subset
        self._reward_images = reward_images
        self._target_accuracy = target_accuracy
        self._target_sparsity = target_sparsity
        self._beta = beta
        self._retrain = retrain
        self._on_batch = on_batch
        self._live = [*model.parameters(), *model.buffers()]
        self._dense = [tensor.detach().clone() for tensor in self._live]
        self._dense_mask = Mask.from_weights(self.layers)
        self._begin()

    @property
    def mask(self) -> Mask:
        """What is kept of the network at this point of the walk."""
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
            torch._foreach_copy_(self._live, self._dense)
        self._begin()
        return self._observation.copy(), {}

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        index, began = len(self._walk.actions), time.perf_counter()
        if index == len(self.layers):
            raise RuntimeError("the episode has ended: call reset()")
        layer = self.layers[index]
        keep = keep_above(layer.weight, self.alphas[int(action)], self._mask.keep[layer.name])
        self._mask = self._mask.narrow(layer.name, keep)

        seed = derive(self.retrain_seed, "retrain", index)
        train(self.model, self._subset, self._retrain, seed=seed, mask=self._mask, on_batch=self._on_batch)
        reached = accuracy(self.model, self._reward_images, self._on_batch)
        kept, weights = self._mask.per_layer[layer.name]
        self._observation[2 * index : 2 * index + 2] = reached, (weights - kept) / weights

        pruned = self._mask.sparsity
        reward = capped(reached, pruned, self._target_accuracy, self._target_sparsity, self._beta)
        self._walk = Walk(
            actions=(*self._walk.actions, int(action)),
            rewards=(*self._walk.rewards, reward),
            accuracies=(*self._walk.accuracies, reached),
            sparsities=(*self._walk.sparsities, pruned),
            seconds=self._walk.seconds + time.perf_counter() - began,
        )
        ended = index + 1 == len(self.layers)
        return self._observation.copy(), reward, ended, False, {"accuracy": reached, "sparsity": pruned}

    def _begin(self) -> None:
        self._mask = self._dense_mask
        self._observation = np.zeros(2 * len(self.layers), np.float32)
        self._walk = Walk()
