"""What leaves the house: the winner written to a file, read back, counted and measured again, then staged."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from purlkit import checkpoint
from purlkit.errors import VerificationFailed
from purlkit.pruning.cost import cost, weight_uses
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.results import (
    CHECKPOINT,
    POLICY,
    RESULT,
    Accuracy,
    Candidate,
    CheckpointRef,
    Cost,
    Finish,
    Outcome,
    Result,
    Winner,
)
from purlkit.spec import JobSpec
from purlkit.training.data import Splits
from purlkit.training.evaluate import accuracy, top5_accuracy
from purlkit.verdict import Choice, sentence
from purlkit.zoo import models
from workers import files
from workers.attempt import Attempt
from workers.dense import Dense
from workers.race import Entrant, Finisher
from workers.search import Found

PACKAGES = ("purlkit", "torch", "torchvision", "ray", "numpy")
# Requested sparsity is achieved sparsity to within this share of all prunable weights, or the job says why not.
SPARSITY_TOLERANCE = 0.001


def write_checkpoint(job: Attempt, dense: Dense, winner: Finisher) -> Path:
    candidate = winner.contender.candidate
    metadata = {
        "format": "purl-1",
        "spec_fingerprint": job.spec.fingerprint,
        "model": job.spec.model.model_dump_json(include={"name", "kwargs"}),
        "dense_sha256": dense.sha256,
        "sparsity": repr(candidate.sparsity),
        "prunable_weights": str(sum(layer.weights for layer in candidate.layers)),
        "method": candidate.method,
    }
    path = job.scratch / CHECKPOINT
    path.write_bytes(checkpoint.to_bytes(winner.tensors, metadata=metadata))
    return path


@dataclass(frozen=True)
class Counted:
    """What the written file turned out to hold."""

    mask: Mask
    accuracy: float
    top5_accuracy: float | None
    cost: Cost


def verify(job: Attempt, splits: Splits, path: Path, winner: Candidate) -> Counted:
    """Zeros and accuracy from the very bytes that will be published; a difference fails the job."""
    tensors, _ = checkpoint.read(path)
    model = models.build_for(job.spec).to(job.device)
    checkpoint.load_into(model, tensors)
    mask = Mask.from_weights(prunable_layers(model))
    measured = accuracy(model, splits.test)
    _compare("sparsity", mask.sparsity, winner.sparsity)
    _compare("test accuracy", measured, winner.accuracy)
    top5 = top5_accuracy(model, splits.test)
    return Counted(mask, measured, top5, cost(model, mask, weight_uses(model, splits.test[:1].x)))


def _compare(what: str, now: float, before: float) -> None:
    if now != before:
        raise VerificationFailed(f"{what} of the written checkpoint is {now!r}, but {before!r} was measured before")


def result_of(
    job: Attempt,
    dense: Dense,
    splits: Splits,
    path: Path,
    choice: Choice,
    finishers: list[Finisher],
    purl: Entrant,
    found: Found,
) -> Result:
    spec, winner = job.spec, choice.winner.candidate
    counted = verify(job, splits, path, winner)
    content = path.read_bytes()
    return Result(
        winner=Winner(method=winner.method, variant=winner.variant),
        verdict=sentence(choice, epochs=spec.fine_tune.epochs),
        targets_met=targets_met(
            spec, sparsity=counted.mask.sparsity, accuracy=counted.accuracy, dense=dense.test_accuracy
        ),
        sparsity=counted.mask.sparsity,
        prunable_weights=counted.mask.total,
        flops=counted.cost,
        accuracy=Accuracy(dense=dense.test_accuracy, pruned=winner.accuracy_pruned, fine_tuned=counted.accuracy),
        top5_accuracy=counted.top5_accuracy,
        candidates=tuple(finisher.contender.candidate for finisher in finishers),
        checkpoint=CheckpointRef(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
        dense_sha256=dense.sha256,
        splits=splits.sizes,
        seed=spec.seed,
        versions={"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        search_seconds=purl.seconds,
        search_images=purl.images,
        search_steps=found.steps,
        search_steps_computed=found.steps_computed,
    )


def targets_met(spec: JobSpec, *, sparsity: float, accuracy: float, dense: float) -> bool:
    """Judged on the test split, once, at the end. Without an accuracy target only the sparsity counts."""
    targets = spec.targets
    lowest = targets.accuracy if targets.accuracy is not None else 0.0
    if targets.max_drop is not None:
        lowest = dense - targets.max_drop
    return accuracy >= lowest and abs(sparsity - targets.sparsity) <= SPARSITY_TOLERANCE


def stage(job: Attempt, path: Path, result: Result, entrants: list[Entrant], others: list[str]) -> Finish:
    """Send the files; the service shows them when it accepts the finish that names them."""
    alphas = {entrant.name: entrant.alphas for entrant in entrants if entrant.alphas is not None}
    layers = {c.method: [layer.model_dump(mode="json") for layer in c.layers] for c in result.candidates}
    (job.scratch / POLICY).write_text(json.dumps({"alphas": alphas, "layers": layers}, indent=1))
    (job.scratch / RESULT).write_text(result.model_dump_json(indent=1))
    job.link.put_artifact(CHECKPOINT, path, "application/octet-stream")
    for name in (POLICY, RESULT):
        job.link.put_artifact(name, job.scratch / name, "application/json")
    for name in others:
        job.link.put_artifact(name, job.scratch / name, files.MEDIA_TYPES[name])
    return Finish(outcome=Outcome.SUCCEEDED, result=result, artifacts=(CHECKPOINT, POLICY, RESULT, *others))
