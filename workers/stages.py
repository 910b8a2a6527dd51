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
from purlkit.seeds import stage_seed
from purlkit.spec import JobSpec
from purlkit.zoo import models
from workers.dense import Dense
from workers.race import Entrant, Finisher


@dataclass(frozen=True)
class Stage:
    """A target, and where the way to it begins: a network, what is kept of it, and what it cost to get there."""

    spec: JobSpec
    number: int
    tensors: dict[str, torch.Tensor]
    mask: Mask
    images: int = 0
    seconds: float = 0.0

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
        """Each stage's work has a name of its own, so that a killed attempt goes on in the right one."""
        return f"{name}-{self.number}" if self.number else name

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
        return checkpoint.to_bytes(tensors, metadata={"images": str(self.images), "seconds": repr(self.seconds)})

    @classmethod
    def from_bytes(cls, spec: JobSpec, number: int, content: bytes) -> Stage:
        tensors, rest = checkpoint.from_bytes(content)
        network, keep = (
            {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
            for kind in ("network/", "keep/")
        )
        return cls(spec, number, network, Mask(keep), int(rest["images"]), float(rest["seconds"]))


def first(spec: JobSpec, dense: Dense) -> Stage:
    kept = Mask.from_weights(dense.layers).keep
    return Stage(spec, 0, dense.tensors, Mask({name: keep.cpu() for name, keep in kept.items()}))


def after(stage: Stage, entrant: Entrant, finisher: Finisher) -> Stage:
    """The stage that follows, from the fine-tuned network of this one."""
    tuned = finisher.contender.candidate
    return Stage(stage.spec, stage.number + 1, finisher.tensors, entrant.mask, tuned.images_seen, tuned.seconds)
