"""JobSpec: the whole of what a client asks for, with the fingerprint that is its identity."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from purlkit.errors import InvalidSpec
from purlkit.spec.model import Dataset, Model, TrainHere
from purlkit.spec.race import Race
from purlkit.spec.record import Record, disagree
from purlkit.spec.search import Search
from purlkit.spec.training import FineTune, Training
from purlkit.zoo import catalog

# Part of every fingerprint: raised when the meaning of an existing field or default changes.
# 2: without `baselines` a job races five naive methods, where it had raced global magnitude alone.
SPEC_VERSION = 2

# Fields that say how a job is handled, not what it computes.
NOT_IN_FINGERPRINT = frozenset({"name", "labels", "priority", "timeout_seconds", "max_attempts"})


Goal = Literal["sparsity", "flops"]
Sparsity = Annotated[float, Field(gt=0, lt=1)]
Several = Annotated[tuple[Sparsity, ...], Field(strict=False, min_length=1, max_length=20)]


def _one_or_several(value: Any) -> str:
    return "several" if isinstance(value, (list, tuple)) else "one"


class Targets(Record):
    """What is asked for: `sparsity` or `flops`, and perhaps an accuracy."""

    sparsity: (
        Annotated[Annotated[Sparsity, Tag("one")] | Annotated[Several, Tag("several")], Discriminator(_one_or_several)]
        | None
    ) = Field(
        None, description="share of all prunable weights to remove; or several, rising: a search and a race for each"
    )
    flops: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="instead of sparsity: share of the multiply-adds to remove, of convolutions and linear layers",
    )
    accuracy: float | None = Field(None, gt=0, le=1, description="top-1 accuracy to keep")
    max_drop: float | None = Field(None, ge=0, lt=1, description="accuracy that may be lost, from the dense model's")

    @field_validator("sparsity", mode="before")
    @classmethod
    def _one_is_no_list(cls, sparsity: Any) -> Any:
        # A list of one is the job without a list: the same job has one fingerprint.
        return sparsity[0] if isinstance(sparsity, (list, tuple)) and len(sparsity) == 1 else sparsity

    @field_validator("sparsity")
    @classmethod
    def _rising(cls, sparsity: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        if isinstance(sparsity, tuple) and not all(low < high for low, high in pairwise(sparsity)):
            raise ValueError("several sparsities must rise strictly")
        return sparsity

    @model_validator(mode="after")
    def _one_of_each(self) -> Targets:
        if (self.sparsity is None) == (self.flops is None):
            raise disagree("give either sparsity or flops", "/sparsity", "/flops")
        if self.accuracy is not None and self.max_drop is not None:
            raise disagree("give accuracy or max_drop, not both", "/accuracy", "/max_drop")
        return self


Baseline = Literal["uniform", "global", "global-mt", "lamp", "erk", "random"]


class Resources(Record):
    env_runners: int = Field(2, ge=1, le=1024, description="episodes played side by side")
    cpus_per_runner: float = Field(1, ge=0.01, le=1024, description="CPUs reserved for each, or a share of one")
    gpus_per_runner: float = Field(0, ge=0, le=64, description="GPUs (or a share of one) reserved for each")
    cache_bytes: int = Field(
        2**28, ge=0, le=2**40, description="main memory of each for steps that it then need not compute again; 0: none"
    )
    data_bytes: int = Field(
        2**30,
        ge=0,
        le=2**44,
        description="memory of each node for images in files: where all of them fit they are decoded once and kept for "
        "all processes of the node, else each batch is read while the one before is trained on; 0: always so",
    )
    fine_tune_workers: int = Field(
        1,
        ge=1,
        le=1024,
        description="processes that train one network together, dense and after pruning: each takes its share of every "
        "batch, and has the CPUs and GPUs of a runner",
    )

    @field_validator("gpus_per_runner")
    @classmethod
    def _gpus_that_ray_can_count(cls, gpus: float) -> float:
        if 0 < gpus < 0.01 or (gpus > 1 and gpus % 1):
            raise ValueError("gpus_per_runner is 0, a share from 0.01 to 1, or a whole number")
        return gpus

    @property
    def processes(self) -> int:
        """At most so many at once."""
        return max(self.env_runners, self.fine_tune_workers)

    @property
    def cpus(self) -> float:
        return self.processes * self.cpus_per_runner

    @property
    def gpus(self) -> float:
        return self.processes * self.gpus_per_runner


class JobSpec(Record):
    """Everything a job is. The least body is {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}."""

    name: str | None = Field(None, max_length=200, description="yours to choose; not unique")
    labels: dict[Annotated[str, Field(max_length=63)], Annotated[str, Field(max_length=255)]] = Field(
        {}, max_length=32, description="yours to choose"
    )
    priority: int = Field(0, ge=-100, le=100, description="higher runs first")
    timeout_seconds: float | None = Field(None, gt=0, le=31_536_000, description="running time before the job fails")
    max_attempts: int = Field(3, ge=1, le=100, description="the same exception at the same place, so often, ends it")
    model: Model
    dataset: Dataset | None = Field(None, description="the model's own data set when left out")
    targets: Targets
    stages: tuple[float, ...] = Field(
        (),
        strict=False,
        max_length=100,
        description="rising sparsities up to the target, each with a search and a fine-tune of its own; none: one step",
    )
    search: Search = Search()
    fine_tune: FineTune = FineTune()
    stage_epochs: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(
        (),
        strict=False,
        max_length=99,
        description="epochs of the fine-tune after each of `stages` but the last, which has those of `fine_tune`; "
        "none: all have those",
    )
    baselines: tuple[Baseline, ...] = Field(
        ("uniform", "global", "global-mt", "lamp", "random"),
        strict=False,
        max_length=16,
        description="the naive methods raced against the search; random: the best of as many random policies as the "
        "search has episodes",
    )
    minimum_threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="of global-mt: every layer keeps at least this share of ALL prunable weights, a smaller one all of "
        "its own; null: half of what the target keeps, divided evenly among the layers",
    )
    race: Race = Race()
    resources: Resources = Resources()
    seed: int = Field(0, ge=0, lt=2**31, description="with the spec it decides every random choice")

    @field_validator("stages")
    @classmethod
    def _rising_to_the_target(cls, stages: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        targets = info.data.get("targets")
        if not stages or targets is None:  # without valid targets there is an error already
            return stages
        if stages[0] <= 0 or not all(low < high for low, high in pairwise(stages)):
            raise ValueError("stages must rise strictly, from above 0")
        if targets.sparsity is None:
            raise ValueError("stages are sparsities: give targets.sparsity, or leave the stages out")
        several = isinstance(targets.sparsity, tuple)
        if several:
            raise ValueError("stages lead to one target: give one sparsity, or leave the stages out")
        if stages[-1] != targets.sparsity:
            raise ValueError("the last of stages must equal targets.sparsity")
        # One stage is what a job without stages does: the same job has one fingerprint.
        return stages if len(stages) > 1 else ()

    @field_validator("stage_epochs")
    @classmethod
    def _one_for_each_stage_on_the_way(cls, epochs: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        stages, last = info.data.get("stages"), info.data.get("fine_tune")
        if not epochs or stages is None or last is None:  # without those there is an error already
            return epochs
        on_the_way = max(0, len(stages) - 1)
        if len(epochs) != on_the_way:
            raise ValueError(f"give one number for each of stages but the last, {on_the_way} in all, or none")
        # What fine_tune says of all stages is the same job, and has the same fingerprint.
        return () if set(epochs) == {last.epochs} else epochs

    @model_validator(mode="after")
    def _fields_agree(self) -> JobSpec:
        if len(set(self.baselines)) != len(self.baselines):
            raise disagree("name each method once", "/baselines")
        if self.goal == "flops" and self.search.algorithm == "purl-budget":
            raise disagree(
                "purl-budget divides a number of weights: give targets.sparsity", "/targets/flops", "/search/algorithm"
            )
        if self.stages and self.search.algorithm == "purl-budget":
            raise disagree(
                "purl-budget goes to its target in one step: leave stages out", "/stages", "/search/algorithm"
            )
        if self.minimum_threshold is not None and "global-mt" not in self.baselines:
            raise disagree(
                "minimum_threshold is a setting of global-mt: name that in baselines, or leave it out",
                "/minimum_threshold",
                "/baselines",
            )
        if self.goal == "flops" and self.minimum_threshold is not None:
            raise disagree(
                "minimum_threshold belongs to a target sparsity: leave it out with targets.flops",
                "/minimum_threshold",
                "/targets/flops",
            )
        if self.race.matched and not set(self.baselines) - {"random"}:
            raise disagree(
                "race.matched trains a naive method on: name one in baselines, beside random",
                "/race/matched",
                "/baselines",
            )
        if self.resources.env_runners > self.search.lookahead:
            raise disagree(
                f"resources.env_runners is {self.resources.env_runners} but search.lookahead is "
                f"{self.search.lookahead}: raise lookahead to at least the number of runners",
                "/resources/env_runners",
                "/search/lookahead",
            )
        self._shared_well()
        return self

    def _shared_well(self) -> None:
        """Whether several workers can train one network: each must have something of a batch, and a GPU of its own."""
        workers, gpus = self.resources.fine_tune_workers, self.resources.gpus_per_runner
        if workers > 1 and 0 < gpus < 1:
            raise disagree(
                "two workers can't train one network on the same GPU: leave fine_tune_workers at 1, or give each a "
                "whole GPU in gpus_per_runner",
                "/resources/fine_tune_workers",
                "/resources/gpus_per_runner",
            )
        for at, training in self.trainings.items():
            if training.batch_size < workers:
                raise disagree(
                    f"a batch has {training.batch_size} images for {workers} workers: ask for fewer of them, or for a "
                    "larger batch_size",
                    "/resources/fine_tune_workers",
                    f"{at}/batch_size",
                )

    def resolve(self) -> JobSpec:
        """The same spec with the catalog's defaults filled in and every name known; raises with field and remedy."""
        model = catalog.model(self.model.name, at="/model/name")
        dataset = self.dataset or Dataset(name=model.dataset)
        data = catalog.dataset(dataset.name, at="/dataset/name")
        catalog.check_kwargs(model, self.model.kwargs, at="/model/kwargs")
        catalog.check_kwargs(data, dataset.kwargs, at="/dataset/kwargs")
        if self.model.weights == "pretrained":
            catalog.check_pretrained(model, classes=data.classes_with(dataset.kwargs))
        return self.model_copy(update={"dataset": dataset})

    @property
    def goal(self) -> Goal:
        """What the targets are shares of: weights or multiply-adds."""
        return "sparsity" if self.targets.flops is None else "flops"

    @property
    def points(self) -> tuple[float, ...]:
        """The shares to remove, each with a search, a race and a checkpoint of its own."""
        given = getattr(self.targets, self.goal)
        return given if isinstance(given, tuple) else (given,)

    def at(self, point: float) -> JobSpec:
        """The same job with one of its targets alone."""
        return self.model_copy(update={"targets": self.targets.model_copy(update={self.goal: point})})

    @property
    def target(self) -> float:
        """The share to remove of a job with one target."""
        (target,) = self.points
        return target

    @property
    def sparsities(self) -> tuple[float, ...]:
        """The target of each search: of the stages on the way to the one target, else of the points."""
        return self.stages or self.points

    @property
    def trainings(self) -> dict[str, Training]:
        """Those of whole networks, which several workers can share, by where they stand."""
        here = self.model.weights
        return {"/fine_tune": self.fine_tune} | (
            {"/model/weights/train": here.train} if isinstance(here, TrainHere) else {}
        )

    @property
    def tunings(self) -> tuple[FineTune, ...]:
        """The training after each of `stages` but the last."""
        epochs = self.stage_epochs or (self.fine_tune.epochs,) * (len(self.stages) - 1)
        return tuple(self.fine_tune.model_copy(update={"epochs": each}) for each in epochs)

    @property
    def data(self) -> Dataset:
        """The data set of a resolved spec."""
        if self.dataset is None:
            raise InvalidSpec("the data set is not resolved", at="/dataset", remedy="call resolve() first")
        return self.dataset

    @property
    def fingerprint(self) -> str:
        """sha256 of what the job computes. Fields at their default are left out, so a new field moves no old one."""
        # Whether a step is looked up or an image read again changes nothing, so it is no part of what is computed.
        as_ever = Resources().model_dump(include={"cache_bytes", "data_bytes"})
        resources = self.resources.model_copy(update=as_ever)
        said = self.model_copy(update={"resources": resources}).model_dump(
            mode="json", exclude_defaults=True, exclude=set(NOT_IN_FINGERPRINT)
        )
        canonical = json.dumps({"version": SPEC_VERSION, "spec": said}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
