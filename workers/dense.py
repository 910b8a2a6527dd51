"""The trained network that a job is about: from an earlier attempt, from the client's upload, or trained here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from purlkit import checkpoint
from purlkit.pruning.cost import weight_uses
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.seeds import derive
from purlkit.spec import TrainHere, Uploaded
from purlkit.training.data import Splits
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train
from purlkit.zoo import models, pretrained
from workers.attempt import Attempt

SAVED = "dense"


@dataclass(frozen=True)
class Dense:
    """How good the network is before anything is cut; `tensors` are what every copy of it starts from."""

    layers: list[PrunableLayer]
    tensors: dict[str, torch.Tensor]
    sha256: str
    reward_accuracy: float
    uses: dict[str, int] = field(default_factory=dict)  # of each layer's weights: cost.weight_uses


def uploaded_weights(job: Attempt) -> Path | None:
    """The client's file, fetched once; None where the job trains its own network."""
    if job.brief.weights_href is None or not isinstance(job.spec.model.weights, Uploaded):
        return None
    path = job.scratch / "uploaded.safetensors"
    path.write_bytes(job.link.fetch(job.brief.weights_href))
    return path


def dense_baseline(job: Attempt, splits: Splits, uploaded: Path | None) -> Dense:
    model = models.build_for(job.spec).to(job.device)
    saved = job.saved(SAVED)
    if saved is not None:
        checkpoint.load_into(model, checkpoint.from_bytes(saved)[0])
    elif uploaded is not None:
        tensors, _ = checkpoint.read(uploaded, lambda header: checkpoint.refuse_unfit(model, header))
        checkpoint.load_into(model, tensors)
    elif job.spec.model.weights == "pretrained":
        pretrained.load(model, job.spec.model, job.datasets_dir)
    else:
        _train(job, model, splits)
    dense = Dense(
        layers=prunable_layers(model),
        tensors=checkpoint.tensors_of(model),
        sha256=checkpoint.fingerprint(model),
        reward_accuracy=accuracy(model, splits.reward),
        uses=weight_uses(model, splits.train[:1].x),
    )
    if saved is None:
        job.link.save(SAVED, checkpoint.to_bytes(dense.tensors, metadata={}))
    # Not on the test split, which is read once, when all is decided.
    job.link.event("note", {"dense_accuracy": accuracy(model, splits.select), "dense_sha256": dense.sha256})
    return dense


def _train(job: Attempt, model: nn.Module, splits: Splits) -> None:
    weights = job.spec.model.weights
    assert isinstance(weights, TrainHere)

    def step_done() -> None:
        job.link.tick()
        job.link.check()

    train(
        model,
        splits.train,
        weights.train,
        seed=derive(job.spec.seed, "dense"),
        on_batch=step_done,
        at="/model/weights/train/learning_rate",
    )
