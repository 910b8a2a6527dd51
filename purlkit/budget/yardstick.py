"""What an allocation is worth: the reward split's cross-entropy after pruning a network to it and a short training."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from purlkit.budget.allocation import Allocation
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import largest
from purlkit.spec import Training
from purlkit.training.data import Samples
from purlkit.training.evaluate import accuracy, cross_entropy
from purlkit.training.loop import train


@dataclass(frozen=True)
class Worth:
    loss: float
    accuracy: float


class Yardstick:
    """Prunes the model as it was given, trains it, measures it and puts it back.

    The same allocation under the same seed is worth the same, so it is looked up: up to `remembered` of the latest.
    `trained` counts the trainings that were really done. `mask` says what is kept of the model at all.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Samples,
        measured_on: Samples,
        training: Training,
        *,
        mask: Mask | None = None,
        remembered: int = 10_000,
        on_batch: Callable[[], None] | None = None,
        at: str | None = None,
    ) -> None:
        self.layers = prunable_layers(model)
        self.trained = 0
        self._model, self._images, self._measured_on = model, images, measured_on
        self._training, self._on_batch, self._at = training, on_batch, at
        if mask is not None:
            mask.apply(self.layers)
        self._live = [*model.parameters(), *model.buffers()]
        self._first = [tensor.detach().clone() for tensor in self._live]
        self._remembered = remembered
        self._known: OrderedDict[tuple[int, Allocation], Worth] = OrderedDict()

    def mask_of(self, allocation: Allocation) -> Mask:
        """So many of the largest weights of each layer."""
        return largest(self.layers, allocation)

    def __call__(self, allocation: Allocation, seed: int) -> Worth:
        key = seed, allocation
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        worth = self._measure(self.mask_of(allocation), seed)
        if self._remembered:
            self._known[key] = worth
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)
        return worth

    def losses(self, allocations: Sequence[Allocation], seed: int) -> list[float]:
        return [self(allocation, seed).loss for allocation in allocations]

    def _measure(self, mask: Mask, seed: int) -> Worth:
        self.trained += 1
        try:
            train(
                self._model,
                self._images,
                self._training,
                seed=seed,
                mask=mask,
                on_batch=self._on_batch,
                at=self._at,
            )
            loss = cross_entropy(self._model, self._measured_on, self._on_batch)
            return Worth(loss, accuracy(self._model, self._measured_on, self._on_batch))
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._live, self._first)


def entries_in(nbytes: int, layers: int) -> int:
    """How many allocations of so many layers fit, with what they are worth: their numbers, and Python's own share."""
    return nbytes // (700 + 40 * layers)
