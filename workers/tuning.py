"""One fine-tuning, as data and as a Ray task: what goes in, what comes out, and what is saved of it on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from purlkit.startup import loading

with loading():  # a Ray worker's first task begins here
    import torch
    from torch import Tensor

from purlkit import checkpoint
from purlkit.errors import Diverged
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.spec import FineTune, JobSpec
from purlkit.training.batchnorm import reestimate
from purlkit.training.data import Splits, subset
from purlkit.training.evaluate import accuracy, correct
from purlkit.training.loop import train
from purlkit.training.paused import Paused
from purlkit.training.together import Team
from purlkit.zoo import models

# A task that takes longer hands over what it has, so that a killed attempt loses no more. It changes no bit.
TASK_SECONDS = 60.0
# In the middle of an epoch it takes longer until that is worth the new start.
PIECE_SECONDS = 300.0


@dataclass(frozen=True, eq=False)
class Entrant:
    """A mask that some method chose, and what finding it cost."""

    method: str
    variant: Literal["mean", "best"] | None
    mask: Mask
    alphas: tuple[float, ...] | None = None
    note: str | None = None
    images: int = 0
    device_seconds: float = 0.0
    tensors: dict[str, Tensor] | None = None  # of the network that it prunes; None: the dense one
    flops: float | None = None  # share of the multiply-adds removed, where the target is about it

    @property
    def saved(self) -> float:
        """As much as it removes of what the target is about."""
        return self.mask.sparsity if self.flops is None else self.flops

    @property
    def name(self) -> str:
        return f"{self.method}-{self.variant}" if self.variant else self.method

    @property
    def network(self) -> tuple[str, bool]:
        """Equal for entrants that are the same network, bit for bit: those are fine-tuned once."""
        return self.mask.sha256, self.tensors is None


@dataclass(frozen=True, eq=False)
class Run:
    """A network's fine-tuning under one seed, as far as it has come. One that diverged goes no further."""

    epochs: int  # trained, the one that diverged among them
    tensors: dict[str, Tensor]
    accuracy_pruned: float  # select split, before the first epoch
    seconds: float = 0.0  # by the clock
    select: Mapping[int, tuple[bool, ...]] = field(default_factory=dict)  # epochs → which images were right
    paused: dict[str, Tensor] = field(default_factory=dict)  # what it goes on with; nothing at its end
    diverged: str | None = None  # in which epoch, and the remedy
    device_seconds: float = 0.0  # of all workers that trained it together

    def to_bytes(self) -> bytes:
        tensors = {f"network/{name}": tensor for name, tensor in self.tensors.items()}
        tensors |= {f"paused/{name}": tensor for name, tensor in self.paused.items()}
        rest = {
            "epochs": self.epochs,
            "accuracy_pruned": self.accuracy_pruned,
            "seconds": self.seconds,
            "device_seconds": self.device_seconds,
            "select": {epochs: "".join("01"[right] for right in row) for epochs, row in self.select.items()},
            "diverged": self.diverged,
        }
        return checkpoint.to_bytes(tensors, metadata={"run": json.dumps(rest)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Run:
        tensors, metadata = checkpoint.from_bytes(content)
        rest = json.loads(metadata["run"])
        network, paused = (
            {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
            for kind in ("network/", "paused/")
        )
        select = {int(epochs): tuple(right == "1" for right in row) for epochs, row in rest["select"].items()}
        # A run that a version before this one saved had not diverged: that failed the job. Nor did it count workers.
        told = rest["seconds"], select, paused, rest.get("diverged"), rest.get("device_seconds", rest["seconds"])
        return cls(rest["epochs"], network, rest["accuracy_pruned"], *told)


@dataclass(frozen=True, eq=False)
class Leg:
    """A part of a fine-tuning: up to so many epochs, from its beginning or from where `run` stands."""

    name: str  # its work is saved as this
    entrant: Entrant
    training: FineTune
    seed: int
    until: int
    run: Run | None = None
    at: str = "/fine_tune"  # the field of the spec that is to blame if it diverges


def fine_tune(
    spec_json: str, dense: dict[str, Tensor], leg: Leg, data: Splits, pulse: Any, team: Team | None = None
) -> Run:
    """A Ray task, or of each worker of a team: prunes the entrant's network, trains it on, measures it on select.

    A training that diverges is an answer too: its candidate loses, and the others are none the worse for it.
    """
    spec = JobSpec.model_validate_json(spec_json)
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_runner)))
    device = "cuda" if spec.resources.gpus_per_runner > 0 else "cpu"
    splits = data.to(device)
    model = models.build_for(spec).to(device)
    entrant, run = leg.entrant, leg.run

    began = time.monotonic()
    if run is None:
        checkpoint.load_into(model, dense if entrant.tensors is None else entrant.tensors)
        entrant.mask.apply(prunable_layers(model))
        if leg.training.batch_norm_images is not None:
            reestimate(model, subset(splits.train, leg.training.batch_norm_images, leg.seed))
        run = Run(0, {}, accuracy(model, splits.select))
    else:
        checkpoint.load_into(model, run.tensors)
    try:
        paused = train(
            model,
            splits.train,
            leg.training,
            seed=leg.seed,
            mask=entrant.mask,
            on_batch=lambda: pulse.tick.remote(),
            at=leg.at,
            paused=Paused(run.epochs, run.paused) if run.paused else None,
            stop=lambda done: done >= leg.until or time.monotonic() - began > TASK_SECONDS,
            pause_when=lambda: time.monotonic() - began > PIECE_SECONDS,
            team=team,
        )
    except Diverged as error:
        lost = replace(run, epochs=error.epoch, paused={}, diverged=str(error))
        return _longer(lost, time.monotonic() - began, team)
    epochs = paused.epochs if paused else leg.training.epochs
    select = dict(run.select)
    if epochs == leg.until:
        select[epochs] = tuple(correct(model, splits.select).tolist())
    rest = paused.tensors if paused else {}
    further = replace(run, epochs=epochs, tensors=checkpoint.tensors_of(model), select=select, paused=rest)
    return _longer(further, time.monotonic() - began, team)


def _longer(run: Run, seconds: float, team: Team | None) -> Run:
    of_all = seconds * (team.size if team is not None else 1)
    return replace(run, seconds=run.seconds + seconds, device_seconds=run.device_seconds + of_all)
