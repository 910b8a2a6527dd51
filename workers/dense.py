"""The trained network that a job is about: from an earlier attempt, from the client's upload, or trained here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import ray
import torch
from torch import nn

from purlkit import checkpoint
from purlkit.errors import Diverged
from purlkit.pruning.cost import weight_uses
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.seeds import derive
from purlkit.spec import FineTune, TrainHere, Training, Uploaded
from purlkit.training.data import Splits
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train
from purlkit.training.paused import Paused
from purlkit.zoo import models, pretrained
from workers import cluster
from workers.attempt import Attempt
from workers.holding import hold
from workers.pulse import Pulse
from workers.race import Track
from workers.tuning import Entrant, Leg, Run

SAVED = "dense"
ON_THE_WAY = "dense-training"
SAVE_SECONDS = 60.0
RATE = "/model/weights/train/learning_rate"


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
    here = splits.to(job.device)
    dense = Dense(
        layers=prunable_layers(model),
        tensors=checkpoint.tensors_of(model),
        sha256=checkpoint.fingerprint(model),
        reward_accuracy=accuracy(model, here.reward),
        uses=weight_uses(model, here.train[:1].x),
    )
    if saved is None:
        job.link.save(SAVED, checkpoint.to_bytes(dense.tensors, metadata={}))
    # Not on the test split, which is read once, when all is decided.
    job.link.event("note", {"dense_accuracy": accuracy(model, here.select), "dense_sha256": dense.sha256})
    return dense


def _train(job: Attempt, model: nn.Module, splits: Splits) -> None:
    weights = job.spec.model.weights
    assert isinstance(weights, TrainHere)

    def step_done() -> None:
        job.link.tick()
        job.link.check()

    if job.spec.resources.fine_tune_workers > 1:
        _train_together(job, model, weights.train, splits)
        return
    content = job.saved(ON_THE_WAY)
    run = Run.from_bytes(content) if content is not None else None
    if run is not None:
        checkpoint.load_into(model, run.tensors)
    paused = Paused(run.epochs, run.paused) if run is not None else None
    began, images = time.monotonic(), splits.train.to(job.device)

    def due() -> bool:
        return time.monotonic() - began > SAVE_SECONDS

    while True:
        began = time.monotonic()
        paused = train(
            model,
            images,
            weights.train,
            seed=derive(job.spec.seed, "dense"),
            on_batch=step_done,
            at=RATE,
            paused=paused,
            stop=lambda _: due(),
            pause_when=due,
        )
        if paused is None:
            return
        so_far = Run(paused.epochs, checkpoint.tensors_of(model), 0.0, paused=paused.tensors)
        job.link.save(ON_THE_WAY, so_far.to_bytes())


def _train_together(job: Attempt, model: nn.Module, training: Training, splits: Splits) -> None:
    """As the race fine-tunes by several workers, with a mask that keeps everything."""
    with cluster.connected(job.ray_address, job.scratch, on_wait=job.link.check):
        pulse = Pulse(already=job.link.counter)
        track = Track(
            spec=job.spec,
            dense=ray.put(checkpoint.tensors_of(model)),
            data=hold(splits, job.spec),
            pulse=pulse.actor,
            saved=job.saved,
            save=job.link.save,
            on_wait=lambda: job.alive(pulse.read()),
            waits_for=job.tells_of_wait,
        )
        keep = Mask({layer.name: torch.ones(layer.weight.shape, dtype=torch.bool) for layer in prunable_layers(model)})
        as_it_is = FineTune.model_validate(training.model_dump())
        seed = derive(job.spec.seed, "dense")
        leg = Leg(ON_THE_WAY, Entrant("dense", None, keep), as_it_is, seed, training.epochs, at=RATE)
        [run] = track.run([leg])
    if run.diverged is not None:
        raise Diverged(run.diverged, at=RATE)
    checkpoint.load_into(model, run.tensors)
