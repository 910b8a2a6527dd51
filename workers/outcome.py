"""What came of a race: here the test split is read, when nothing is left to decide, and the written file is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from purlkit import checkpoint
from purlkit.errors import VerificationFailed
from purlkit.pruning.cost import cost, weight_uses
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.results import (
    CHECKPOINT,
    Accuracy,
    Candidate,
    CheckpointRef,
    Cost,
    MatchedReport,
    Point,
    RaceReport,
    Winner,
    of_target,
)
from purlkit.sentence import Comparison, Matched, TestNumbers, sentence
from purlkit.spec import JobSpec
from purlkit.training.data import Samples
from purlkit.training.evaluate import accuracy, top5_accuracy
from purlkit.verdict import SPARSITY_TOLERANCE, kind_of
from purlkit.zoo import models
from workers.attempt import Attempt
from workers.dense import Dense
from workers.race import Outcome, Placed
from workers.tuning import Run
from workers.verify import Look, Seen, seen_by_another


@dataclass(frozen=True)
class Checked:
    """One target's winner in a file that was read back, and all there is to tell of its race."""

    point: Point
    candidates: tuple[Candidate, ...]
    path: Path
    alphas: dict[str, tuple[float, ...]]
    winner: Placed


@dataclass(frozen=True)
class Measured:
    """What a network reaches on the test split."""

    accuracy: float
    top5: float | None


class LastLook:
    """The test split, opened when everything is decided. Every network is measured on it once."""

    def __init__(self, job: Attempt, dense: Dense, test: Samples) -> None:
        self._job, self._dense, self._test = job, dense, test
        self._model = models.build_for(job.spec).to(job.device)
        self._known: dict[int, Measured] = {}
        self.uses = weight_uses(self._model, test[:1].x)
        self.dense = self._measure(dense.tensors).accuracy

    def at(self, placed: Placed) -> float:
        """A candidate's accuracy, the mean over its seeds."""
        return fmean(measured.accuracy for measured in self._of(placed))

    def top5_at(self, placed: Placed) -> float | None:
        told = [measured.top5 for measured in self._of(placed)]
        return fmean(one for one in told if one is not None) if None not in told else None

    def _of(self, placed: Placed) -> list[Measured]:
        """Where the fine-tuning diverged there is no network but the one before it."""
        return [self._pruned(placed)] if placed.diverged is not None else [self.after(run) for run in placed.runs]

    def after(self, run: Run) -> Measured:
        if id(run) not in self._known:
            self._known[id(run)] = self._measure(run.tensors)
        return self._known[id(run)]

    def before_tuning(self, placed: Placed) -> float:
        return self._pruned(placed).accuracy

    def _pruned(self, placed: Placed) -> Measured:
        return self._measure(placed.entrant.tensors or self._dense.tensors, placed.entrant.mask)

    def cost(self, mask: Mask) -> Cost:
        return cost(self._model, mask, self.uses)

    def _measure(self, tensors: Mapping[str, Tensor], mask: Mask | None = None) -> Measured:
        checkpoint.load_into(self._model, tensors)
        if mask is not None:
            mask.apply(prunable_layers(self._model))
        right = accuracy(self._model, self._test, self._job.link.tick)
        return Measured(right, top5_accuracy(self._model, self._test, self._job.link.tick))


def checked(
    job: Attempt, dense: Dense, test: LastLook, outcomes: Sequence[Outcome], epoch_images: int
) -> list[Checked]:
    """Writes every winner, has another process read all of them back, and puts the verdicts into words."""
    targets = job.spec.points
    paths = [job.scratch / of_target(CHECKPOINT, target, len(targets)) for target in targets]
    digests = []
    for path, outcome in zip(paths, outcomes, strict=True):
        content = checkpoint.to_bytes(outcome.final.runs[0].tensors, metadata=_metadata(job, dense, outcome.final))
        digests.append(checkpoint.sha256(content))
        write(path, content)
    seen = _seen_again(job, paths)
    told = []
    for target, path, sha256, file, outcome in zip(targets, paths, digests, seen, outcomes, strict=True):
        verify(job.spec, file, sha256, outcome.final.runs[0], test.after(outcome.final.runs[0]).accuracy)
        told.append(_told(job.spec.at(target), dense, test, outcome, path, file, epoch_images))
    return told


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _seen_again(job: Attempt, paths: Sequence[Path]) -> list[Seen]:
    look = Look(
        spec=job.spec.model_dump_json(),
        paths=tuple(map(str, paths)),
        datasets_dir=job.datasets_dir,
        device=job.device,
        threads=torch.get_num_threads(),
    )
    return seen_by_another(look, on_batch=job.link.tick)


def verify(spec: JobSpec, seen: Seen, sha256: str, run: Run, accuracy: float) -> None:
    """Bytes, zeros and accuracy of the very file that will be published; a difference fails the job."""
    model = models.build_for(spec)
    checkpoint.load_into(model, run.tensors)
    counted = Mask.from_weights(prunable_layers(model))
    _compare("number of weights that are not zero", seen.kept, counted.kept)
    _compare("mask", seen.mask_sha256, counted.sha256)
    _compare("test accuracy", seen.accuracy, accuracy)
    _compare("sha256", seen.sha256, sha256)


def _told(
    spec: JobSpec, dense: Dense, test: LastLook, outcome: Outcome, path: Path, seen: Seen, epoch_images: int
) -> Checked:
    final = outcome.final
    saved = seen.sparsity if spec.goal == "sparsity" else seen.cost.flops_pruned
    reason = why_not_met(spec, saved=saved, accuracy=seen.accuracy, dense=test.dense, weights=seen.weights)
    point = Point(
        target=spec.target,
        goal=spec.goal,
        winner=Winner(method=final.entrant.method, variant=final.entrant.variant),
        verdict=_verdict(spec, outcome, test, saved, epoch_images),
        targets_met=reason is None,
        reason=reason,
        sparsity=seen.sparsity,
        flops=seen.cost,
        accuracy=Accuracy(dense=test.dense, pruned=test.before_tuning(final), fine_tuned=seen.accuracy),
        top5_accuracy=seen.top5_accuracy,
        checkpoint=CheckpointRef(name=path.name, sha256=seen.sha256, bytes=path.stat().st_size),
        race=_race(spec, outcome, epoch_images),
        matched=_matched(outcome, test),
    )
    candidates = tuple(_candidate(placed, spec.target, dense, test, epoch_images) for placed in outcome.placed)
    alphas = {p.entrant.name: p.entrant.alphas for p in outcome.placed if p.entrant.alphas is not None}
    return Checked(point, candidates, path, alphas, final)


def _metadata(job: Attempt, dense: Dense, final: Placed) -> dict[str, str]:
    return {
        "format": "purl-1",
        "spec_fingerprint": job.spec.fingerprint,
        "model": job.spec.model.model_dump_json(include={"name", "kwargs"}),
        "dense_sha256": dense.sha256,
        "sparsity": repr(final.entrant.mask.sparsity),
        "prunable_weights": str(final.entrant.mask.total),
        "method": final.entrant.method,
    }


def _compare(what: str, now: object, before: object) -> None:
    if now != before:
        raise VerificationFailed(f"the {what} of the written checkpoint is {now!r}, but {before!r} was measured before")


def why_not_met(spec: JobSpec, *, saved: float, accuracy: float, dense: float, weights: int) -> str | None:
    """None where the targets are met. Judged on the test split, once, at the end. `saved` is of what the goal says."""
    targets, reasons = spec.targets, []
    lowest = targets.accuracy if targets.accuracy is not None else 0.0
    if targets.max_drop is not None:
        lowest = dense - targets.max_drop
    # Nearer than one image of any split: a difference of two shares is seldom the share that it should be.
    if accuracy < lowest - 1e-9:
        reasons.append(f"test accuracy {accuracy:.4f} is under the {lowest:.4f} asked for")
    if abs(saved - spec.target) > SPARSITY_TOLERANCE and spec.goal == "flops":
        why = (
            "no number of weights removes more nearly that" if spec.search.exact_target else "the policy was not scaled"
        )
        reasons.append(f"{saved:.4f} of the multiply-adds are removed instead of {spec.target:g}: {why}")
    elif abs(saved - spec.target) > SPARSITY_TOLERANCE:
        reasons.append(_why_not_as_sparse(spec.target, saved, weights))
    return "; ".join(reasons) or None


def _why_not_as_sparse(asked: float, reached: float, weights: int) -> str:
    if abs(reached - asked) <= 0.5 / weights:
        near = sorted({reached, reached + (1 if reached < asked else -1) / weights})
        between = " and ".join(f"{share:.4f}" for share in near)
        return f"{weights} prunable weights allow no sparsity between {between}, so {asked:g} can't be met more exactly"
    return f"sparsity {reached:.4f} was reached instead of {asked:g}: the policy was not scaled to the target"


def _verdict(spec: JobSpec, outcome: Outcome, test: LastLook, saved: float, epoch_images: int) -> str:
    choice, matched = outcome.choice, None
    numbers = None
    if choice.search is not None and choice.rival is not None:
        numbers = TestNumbers(test.at(outcome.of(choice.search)), test.at(outcome.of(choice.rival)))
    if outcome.control is not None:
        naive = outcome.control.naive
        matched = Matched(naive.entrant.method, naive.epochs, test.at(naive), outcome.control.lead)
    report = _race(spec, outcome, epoch_images)
    how = Comparison(report.epochs, report.of_epochs, report.seeds, epoch_images)
    return sentence(
        choice,
        how,
        saved=saved,
        goal=spec.goal,
        test=numbers,
        matched=matched,
        diverged=[(each.entrant.method, each.entrant.variant) for each in outcome.diverged],
        no_control=outcome.no_control,
        contested=len({kind_of(placed.entrant.method) == "search" for placed in outcome.placed}) > 1,
    )


def _race(spec: JobSpec, outcome: Outcome, epoch_images: int) -> RaceReport:
    networks = {placed.entrant.network: placed for placed in outcome.placed}.values()
    runs = [run for placed in networks for run in placed.runs]
    winner, final = outcome.of(outcome.choice.winner).runs[0], outcome.final.runs[0]
    return RaceReport(
        epochs=outcome.plan.rungs[-1].epochs,
        of_epochs=spec.fine_tune.epochs,
        seeds=outcome.plan.seeds,
        images=(sum(run.epochs for run in runs) + final.epochs - winner.epochs) * epoch_images,
        device_seconds=sum(run.device_seconds for run in runs) + final.device_seconds - winner.device_seconds,
    )


def _matched(outcome: Outcome, test: LastLook) -> MatchedReport | None:
    if outcome.control is None:
        return None
    naive = outcome.control.naive
    return MatchedReport(
        method=naive.entrant.method,
        epochs=naive.epochs,
        select_accuracy=naive.contender.accuracy,
        accuracy=test.at(naive),
    )


def _candidate(placed: Placed, target: float, dense: Dense, test: LastLook, epoch_images: int) -> Candidate:
    entrant, pruned = placed.entrant, placed.runs[0].accuracy_pruned
    return Candidate(
        method=entrant.method,
        variant=entrant.variant,
        target=target,
        sparsity=entrant.mask.sparsity,
        accuracy_pruned=pruned,
        select_accuracy=placed.contender.accuracy if placed.diverged is None else pruned,
        accuracy=test.at(placed),
        top5_accuracy=test.top5_at(placed),
        epochs=placed.epochs,
        seeds=len(placed.runs),
        images_seen=entrant.images + sum(run.epochs for run in placed.runs) * epoch_images,
        device_seconds=entrant.device_seconds + sum(run.device_seconds for run in placed.runs),
        layers=entrant.mask.report(dense.layers, entrant.alphas, test.uses),
        cost=test.cost(entrant.mask),
        mask_sha256=entrant.mask.sha256,
        note=entrant.note,
        diverged=placed.diverged,
    )
