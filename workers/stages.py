"""The stages of an iterative job: each begins with what the one before it ended with, fine-tuned.

A job without stages is one stage, from the dense network to the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from purlkit import checkpoint
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.results import Episode
from purlkit.seeds import stage_seed
from purlkit.spec import JobSpec
from purlkit.zoo import models
from workers.dense import Dense
from workers.tuning import Entrant, Run


@dataclass(frozen=True)
class Stage:
    """A target, and where the way to it begins: a network, what is kept of it, and what it cost to get there."""

    spec: JobSpec  # with one target
    number: int
    tensors: dict[str, torch.Tensor]
    mask: Mask
    images: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0
    point: int = 0  # which of the job's targets it leads to

    @property
    def target(self) -> float:
        return self.spec.sparsities[self.number]

    @property
    def is_last(self) -> bool:
        return self.number == len(self.spec.sparsities) - 1

    @property
    def seed(self) -> int:
        """What every random choice of the stage follows from. The first has the job's own."""
        return stage_seed(self.spec.seed, self.number)

    def saved_as(self, name: str) -> str:
        """Each stage and target has names of its own, so that a killed attempt goes on in the right one."""
        name = f"{name}-p{self.point}" if self.point else name
        return f"{name}-{self.number}" if self.number else name

    def placed(self, episode: Episode) -> Episode:
        """An episode of this stage's search under its number in the job, where they run on over stages and targets."""
        search, part = self.spec.search, self.point + self.number
        before = part * (search.episodes if episode.kind == "search" else search.greedy_episodes)
        place = {"stage": self.number, "point": self.point, "index": before + episode.index}
        return episode.model_copy(update=place)

    @property
    def weights(self) -> list[tuple[int, int]]:
        """Of each layer how many weights are not zero at the beginning, and how many there are."""
        return [self.mask.per_layer[layer.name] for layer in self.layers]

    @cached_property
    def layers(self) -> list[PrunableLayer]:
        """Those of the network that the stage begins with."""
        model = models.build_for(self.spec)
        checkpoint.load_into(model, self.tensors)
        layers = prunable_layers(model)
        self.mask.apply(layers)
        return layers

    def to_bytes(self) -> bytes:
        tensors = {f"network/{name}": tensor for name, tensor in self.tensors.items()}
        tensors |= {f"keep/{name}": keep.cpu() for name, keep in self.mask.keep.items()}
        cost = {"images": self.images, "seconds": self.seconds, "device_seconds": self.device_seconds}
        return checkpoint.to_bytes(tensors, metadata={name: repr(number) for name, number in cost.items()})

    @classmethod
    def from_bytes(cls, spec: JobSpec, number: int, content: bytes) -> Stage:
        tensors, rest = checkpoint.from_bytes(content)
        network, keep = (
            {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
            for kind in ("network/", "keep/")
        )
        cost = int(rest["images"]), float(rest["seconds"]), float(rest["device_seconds"])
        return cls(spec, number, network, Mask(keep), *cost)


def first(spec: JobSpec, dense: Dense, point: int = 0) -> Stage:
    """Where the way to one of the job's targets begins."""
    kept = Mask.from_weights(dense.layers).keep
    mask = Mask({name: keep.cpu() for name, keep in kept.items()})
    return Stage(spec.at(spec.points[point]), 0, dense.tensors, mask, point=point)


def after(stage: Stage, entrant: Entrant, run: Run, *, seconds: float, images: int) -> Stage:
    """The stage that follows, from the fine-tuned network of this one, which took so long and so many images."""
    spent = entrant.device_seconds + run.device_seconds
    return Stage(stage.spec, stage.number + 1, run.tensors, entrant.mask, entrant.images + images, seconds, spent)
