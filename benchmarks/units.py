"""The units of docs/protocol.md: a dense network, its four splits, and what is measured of both, kept as JSON lines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import nn

from purlkit import baselines, spec
from purlkit.budget.allocation import Allocation, allocation_of
from purlkit.budget.yardstick import Yardstick
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import largest
from purlkit.seeds import derive
from purlkit.spec import FineTune, Retrain, Training
from purlkit.training.data import Samples, Splits
from purlkit.training.evaluate import accuracy, cross_entropy
from purlkit.training.loop import train
from purlkit.zoo import models
from purlkit.zoo.datasets import digits
from purlkit.zoo.procedural import procedural
from purlkit.zoo.splitting import normalised

NAIVE = ("uniform", "erk", "global", "global-mt", "lamp")
FINE_TUNE_SEEDS = 2
FOLDS = 5
Key = tuple[str | int | float, ...]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Unit:
    """One replication: all that is random in it follows from its number."""

    data: str
    blocks: int  # in each stage: 1 makes 10 layers, 3 make 22
    number: int
    width: int = 16

    @cached_property
    def splits(self) -> Splits:
        return _digits(self.number) if self.data == "digits" else _procedural(self.number)

    @cached_property
    def dense(self) -> nn.Module:
        return self.trained()

    def trained(self, epochs: int | None = None) -> nn.Module:
        """The dense network, or as it was after so many epochs of its training."""
        model = self.untrained()
        stop = None if epochs is None else lambda done: done >= epochs
        train(model, self.splits.train, Training(), seed=derive(self.number, "dense"), stop=stop)
        return model

    def each(self, work: Callable[[Any], Value], items: Sequence[Any]) -> list[Value]:
        """In turn; units whose trainings are done elsewhere do it at once."""
        return [work(item) for item in items]

    def yardstick(self, model: nn.Module, images: Samples, measured_on: Samples, training: Retrain) -> Yardstick:
        return Yardstick(model, images, measured_on, training)

    def naive(self, sparsity: float) -> dict[str, Allocation]:
        layers = prunable_layers(self.dense)
        return {name: allocation_of(baselines.method(name)(layers, sparsity), layers) for name in NAIVE}

    def mask_of(self, allocation: Allocation) -> Mask:
        return largest(prunable_layers(self.dense), allocation)

    def fine_tuned(self, allocation: Allocation, seed: int, epochs: int | None = None) -> nn.Module:
        """As every contender is, or for as many epochs as are said."""
        model = self.copy()
        training = FineTune() if epochs is None else FineTune(epochs=epochs)
        seeded = derive(self.number, "fine-tune", seed)
        train(model, self.splits.train, training, seed=seeded, mask=self.mask_of(allocation))
        return model

    def outcome(self, allocation: Allocation, epochs: int | None = None) -> dict[str, list[float]]:
        """For each split that decides or reports, the accuracy under each seed of fine-tuning."""
        tuned = [self.fine_tuned(allocation, seed, epochs) for seed in range(FINE_TUNE_SEEDS)]
        return {
            name: [accuracy(model, images) for model in tuned]
            for name, images in (("select", self.splits.select), ("test", self.splits.test))
        }

    def copy(self) -> nn.Module:
        """Another with the same weights; the dense one is only ever looked at."""
        model = self.untrained()
        model.load_state_dict(self.dense.state_dict())
        return model

    def untrained(self) -> nn.Module:
        kind = spec.Model(name="digits-resnet", kwargs={"width": self.width, "blocks": self.blocks})
        return models.build(kind, shape=self.image_shape, classes=10, seed=derive(self.number, "initial"))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.splits.train.shape
        return channels, height, width


def loss_on(model: nn.Module, *splits: Samples) -> float:
    return sum(cross_entropy(model, images) * len(images) for images in splits) / sum(map(len, splits))


def _digits(number: int) -> Splits:
    """Five units test every image once; the next five shuffle them anew."""
    whole = digits(Path(tempfile.gettempdir()))  # the images come with scikit-learn
    parts = [split[:] for split in (whole.train, whole.reward, whole.select, whole.test)]
    x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
    seed = derive(number // FOLDS, "folds")
    folds = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed)).tensor_split(FOLDS)
    rest = torch.cat([fold for index, fold in enumerate(folds) if index != number % FOLDS])
    order = [rest[:938], rest[938:1188], rest[1188:], folds[number % FOLDS]]
    return normalised([(x[part], y[part]) for part in order])


def _procedural(number: int) -> Splits:
    # The loader gives a sixth of the training images to each other split.
    drawn = procedural(Path(), shape=(1, 4, 4), images=120_000, seed=derive(number, "images"))
    return Splits(drawn.train[:1000], drawn.reward[:250], drawn.select[:250], drawn.test[:])


class Lines:
    """Results as JSON lines, each under a key: a run that is stopped goes on after the last whole line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._one_at_a_time = Lock()
        self._torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
        self.rows: dict[Key, Any] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                with suppress(json.JSONDecodeError):  # one that was cut off: its work is done again
                    row = json.loads(line)
                    self.rows[tuple(row["key"])] = row["value"]

    def once(self, key: Key, work: Callable[[], Any]) -> Any:
        """What is known under the key; else the work is done, and its result written before anything else begins."""
        if key not in self.rows:
            value = work()
            with self._one_at_a_time, self.path.open("a") as file:
                file.write(("\n" if self._torn else "") + json.dumps({"key": key, "value": value}) + "\n")
                self._torn = False
            self.rows[key] = value
        return self.rows[key]
