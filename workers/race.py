"""The race: every candidate gets the same fine-tuning from the same dense checkpoint, side by side on the cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import torch

from purlkit import checkpoint
from purlkit.pruning import cost
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.results import Candidate
from purlkit.seeds import derive
from purlkit.spec import JobSpec
from purlkit.training.batchnorm import reestimate
from purlkit.training.data import subset
from purlkit.training.evaluate import accuracy, correct, top5_accuracy
from purlkit.training.loop import train
from purlkit.verdict import Contender
from purlkit.zoo import datasets, models

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Entrant:
    """A mask that some method chose, and what finding it cost."""

    method: str
    variant: Literal["mean", "best"] | None
    mask: Mask
    alphas: tuple[float, ...] | None = None
    note: str | None = None
    images: int = 0
    seconds: float = 0.0
    tensors: dict[str, torch.Tensor] | None = None  # of the network that it prunes; None: the dense one

    @property
    def name(self) -> str:
        return f"{self.method}-{self.variant}" if self.variant else self.method


@dataclass(frozen=True)
class Finisher:
    contender: Contender
    tensors: dict[str, torch.Tensor]

    def to_bytes(self) -> bytes:
        rest = {
            "candidate": self.contender.candidate.model_dump_json(),
            "select_correct": json.dumps([int(right) for right in self.contender.select_correct]),
        }
        return checkpoint.to_bytes(self.tensors, metadata=rest)

    @classmethod
    def from_bytes(cls, content: bytes) -> Finisher:
        tensors, rest = checkpoint.from_bytes(content)
        right = [bool(value) for value in json.loads(rest["select_correct"])]
        return cls(Contender(Candidate.model_validate_json(rest["candidate"]), right), tensors)


def run(
    spec: JobSpec,
    dense: dict[str, torch.Tensor],
    entrants: list[Entrant],
    *,
    datasets_dir: Path,
    pulse: Any,
    on_finish: Callable[[Entrant, Finisher], None],
    on_wait: Callable[[], None],
    seed: int | None = None,
) -> None:
    """Fine-tune all with one seed, the job's unless another is given.

    `on_finish` gets each as it ends, `on_wait` may raise to stop.
    """
    resources = spec.resources
    task = ray.remote(num_cpus=resources.cpus_per_runner, num_gpus=resources.gpus_per_runner)(fine_tune)
    dense_ref = ray.put(dense)
    seed = derive(spec.seed, "fine-tune") if seed is None else seed
    running = {
        task.remote(spec.model_dump_json(), dense_ref, entrant, str(datasets_dir), pulse, seed): entrant
        for entrant in entrants
    }
    while running:
        on_wait()
        ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL_SECONDS)
        for reference in ready:
            on_finish(running.pop(reference), ray.get(reference))


def fine_tune(
    spec_json: str, dense: dict[str, torch.Tensor], entrant: Entrant, datasets_dir: str, pulse: Any, seed: int
) -> Finisher:
    """Runs as a Ray task: prune the entrant's network by its mask, train it on, and measure it."""
    spec = JobSpec.model_validate_json(spec_json)
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_runner)))
    device = "cuda" if spec.resources.gpus_per_runner > 0 else "cpu"
    splits = datasets.load(spec.data, Path(datasets_dir), device=device)
    model = models.build_for(spec).to(device)
    checkpoint.load_into(model, dense if entrant.tensors is None else entrant.tensors)
    layers = prunable_layers(model)

    began = time.monotonic()
    entrant.mask.apply(layers)
    if spec.fine_tune.batch_norm_images is not None:
        reestimate(model, subset(splits.train, spec.fine_tune.batch_norm_images, seed))
    accuracy_pruned = accuracy(model, splits.test)
    train(
        model,
        splits.train,
        spec.fine_tune,
        seed=seed,
        mask=entrant.mask,
        on_batch=lambda: pulse.tick.remote(),
        at="/fine_tune",
    )
    right = correct(model, splits.select)
    uses = cost.weight_uses(model, splits.test[:1].x)
    candidate = Candidate(
        method=entrant.method,
        variant=entrant.variant,
        sparsity=entrant.mask.sparsity,
        accuracy_pruned=accuracy_pruned,
        accuracy=accuracy(model, splits.test),
        top5_accuracy=top5_accuracy(model, splits.test),
        select_accuracy=right.double().mean().item(),
        images_seen=entrant.images + spec.fine_tune.epochs * len(splits.train),
        seconds=entrant.seconds + time.monotonic() - began,
        layers=entrant.mask.report(layers, entrant.alphas, uses),
        cost=cost.cost(model, entrant.mask, uses),
        mask_sha256=entrant.mask.sha256,
        note=entrant.note,
    )
    return Finisher(Contender(candidate, right.tolist()), checkpoint.tensors_of(model))
