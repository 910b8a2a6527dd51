"""Every published run as a job that can be posted: model, data, targets, stages, search and fine-tuning.

What a paper says stands here as it says it; what it leaves open is ours, and `ours` says so. A job always races its
search against naive methods: a recipe of Global MP is the candidate that `method` names, beside PuRL at its target.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import Field

from purlkit.errors import UnknownName
from purlkit.published import PUBLISHED, Published, Source
from purlkit.spec import JobSpec, Record


class Recipe(Record):
    name: str
    source: Source
    method: str = Field(description="whose row the paper has: a candidate of the job, or a method of the library")
    runs: Literal["job", "library"] = Field(
        "job",
        description="library: the spec's model, data and training are the paper's, the method is not raced in jobs",
    )
    ours: str = Field("", description="what the paper leaves open, and how the spec fills it in")
    spec: JobSpec

    @property
    def published(self) -> tuple[Published, ...]:
        """What the paper reports of this run."""
        return tuple(row for row in PUBLISHED if row.recipe == self.name)


# The final configuration of PuRL's paper is the default of `search`; these are the steps on the way to it.
_STEP_01 = [round(0.1 * i, 1) for i in range(23)]
_DENSE = {"state": "simple", "alphas": _STEP_01, "exact_target": False}
_ABLATION: dict[str, dict[str, Any]] = {
    "sparse-rewards": {**_DENSE, "dense": False},
    "dense-rewards": _DENSE,
    "magnitude-target": {"state": "simple", "criterion": "magnitude_target", "exact_target": False},
    "reward-2": {**_DENSE, "reward": "upside"},
    "reward-3": {**_DENSE, "reward": "cubic"},
    "step-0.2": {"state": "simple", "exact_target": False},
    "state-2n": {**_DENSE, "state": "per_layer"},
}
_NO_RATES = "the paper gives no rate, batch or decay of fine-tuning"
_CIFAR_TRAIN = {"epochs": 200, "batch_size": 128, "learning_rate": 0.1}
_IMAGENET_TUNE = {"batch_size": 256, "learning_rate": 0.01, "weight_decay": 1e-4}
_RESNET50_TUNE = {"epochs": 100, "batch_size": 256, "momentum": 0.875, "label_smoothing": 0.1}
_WRN_TUNE = {"epochs": 200, "batch_size": 128, "momentum": 0.9}
_MOBILENET_TUNE = {"epochs": 120, "batch_size": 256, "weight_decay": 4e-5}
# A GPU is shared by the two runners that a job has when nothing else is said.
_GPU = {"gpus_per_runner": 0.5}


@cache
def recipes() -> dict[str, Recipe]:
    """All of them by name, each resolved.

    >>> recipes()["global-mp-resnet50-80"].spec.fine_tune.learning_rate
    0.0256
    """
    known = (*_purl(), *_quoted_by_purl(), *_global_mp(), *_gradual(), *_fastgrnn())
    return {recipe.name: recipe for recipe in known}


def recipe(name: str) -> Recipe:
    if name not in recipes():
        raise UnknownName(kind="recipe", known=sorted(recipes()), at="/name")
    return recipes()[name]


def _recipe(name: str, source: Source, method: str, ours: str = "", *, runs: str = "job", **spec: Any) -> Recipe:
    if isinstance(spec["model"], str):  # trained here where the paper's network is not published
        spec["model"] = {"name": spec["model"], "weights": {"train": _CIFAR_TRAIN}}
    job = JobSpec.model_validate({"name": name, "resources": _GPU, "baselines": ["global"], **spec}).resolve()
    return Recipe.model_validate(
        {"name": name, "source": source, "method": method, "ours": ours, "runs": runs, "spec": job}
    )


def _pretrained(name: str) -> dict[str, Any]:
    return {"name": name, "weights": "pretrained"}


def _purl() -> list[Recipe]:
    resnet50, both = _pretrained("resnet50"), ["uniform", "global"]
    return [
        *(
            _recipe(
                f"purl-resnet50-cifar10-{what}",
                "PuRL",
                "purl",
                f"{_NO_RATES}, nor its epochs; 12 shares for magnitude-target's grid",
                model="resnet50-cifar",
                targets={"sparsity": 0.6, "accuracy": 0.95},
                search=search,
            )
            for what, search in _ABLATION.items()
        ),
        *(
            _recipe(
                f"purl-resnet50-imagenet-{what}",
                "PuRL",
                "purl",
                "the targets are those of the paper's final run; its numbers are before fine-tuning",
                model=resnet50,
                targets={"sparsity": 0.8027},
                search={"state": state, "exact_target": False},
                fine_tune={**_IMAGENET_TUNE, "epochs": 1},
            )
            for what, state in (("state-3", "simple"), ("state-2n", "per_layer"))
        ),
        _recipe(
            "purl-wrn-28-10-cifar100",
            "PuRL",
            "purl",
            f"{_NO_RATES}, nor its epochs",
            model="wrn-28-10",
            targets={"sparsity": 0.939},
            baselines=both,
            fine_tune={**_WRN_TUNE, "learning_rate": 0.0256},
        ),
        *(
            _recipe(
                f"purl-resnet50-imagenet-{60 + last}-epochs",
                "PuRL",
                "purl",
                _NO_RATES + ("" if last == 30 else ", nor which stage has the 30 epochs more: the last"),
                model=resnet50,
                targets={"sparsity": 0.8027},
                stages=[0.3655, 0.7573, 0.8027],
                stage_epochs=[30, 30],
                fine_tune={**_IMAGENET_TUNE, "epochs": last},
            )
            for last in (30, 60)
        ),
        _recipe(
            "purl-mobilenet_v2-imagenet",
            "PuRL",
            "purl",
            f"{_NO_RATES}, nor its epochs",
            model=_pretrained("mobilenet_v2"),
            targets={"sparsity": 0.433},
            fine_tune={**_IMAGENET_TUNE, "epochs": 90, "weight_decay": 4e-5},
        ),
        _recipe(
            "purl-efficientnet_b2-imagenet",
            "PuRL",
            "purl",
            f"{_NO_RATES}, nor its epochs; images of 224×224",
            model=_pretrained("efficientnet_b2"),
            targets={"sparsity": 0.595},
            baselines=both,
            search={"accuracy_floor": 0.001},
            fine_tune={**_IMAGENET_TUNE, "epochs": 90, "weight_decay": 1e-5},
        ),
    ]


def _quoted_by_purl() -> list[Recipe]:
    """What PuRL's paper compares itself with, by its own words; the methods' own papers have more."""
    said = "only sparsity and epochs are quoted: purlkit.prune has the method"
    no_sparsity = "only the share of FLOPs is quoted: purlkit.prune has the method, for a share of the weights"
    rows = (
        ("amc-resnet50-imagenet", "amc", "resnet50", {"sparsity": 0.8}, 120, said),
        ("state-of-sparsity-resnet50-imagenet", "gmp", "resnet50", {"sparsity": 0.8}, 153, said),
        ("amc-mobilenet_v2-imagenet", "amc", "mobilenet_v2", {"flops": 0.3}, 120, no_sparsity),
    )
    return [
        _recipe(
            name,
            "PuRL",
            method,
            ours,
            runs="library",
            model=_pretrained(model),
            targets=targets,
            search={"episodes": 400} if method == "amc" else {},
            fine_tune={**_IMAGENET_TUNE, "epochs": epochs},
        )
        for name, method, model, targets, epochs, ours in rows
    ]


def _global_mp() -> list[Recipe]:
    mobilenet_v1 = {
        "name": "mobilenet_v1",
        "weights": {"train": {"epochs": 120, "batch_size": 256, "weight_decay": 4e-5}},
    }
    between = "the paper gives rates from 0.0256 to 0.0512; batch and decay are ours, and the dense network's training"
    unsaid = "the paper gives no recipe of this run: that of WRN-28-8 at 97.5 %"
    resnet50 = (
        (80, 0.0256, 2.3e-5, ""),
        (90, 0.1024, 7e-6, ""),
        (95.3, 0.1024, 7e-6, "rate and decay are those at 90 %"),
        (98.05, 0.1024, 7e-6, "rate and decay are those at 90 %"),
    )
    small: tuple[tuple[str, float, dict[str, Any], str], ...] = (
        ("wrn-28-8", 90, {**_WRN_TUNE, "learning_rate": 0.0512}, "weight decay and the dense network's training"),
        ("wrn-28-8", 95, {**_WRN_TUNE, "learning_rate": 0.0256}, "weight decay and the dense network's training"),
        ("wrn-28-8", 97.5, {**_WRN_TUNE, "learning_rate": 0.0128}, "weight decay and the dense network's training"),
        ("resnet32-cifar", 90, {"epochs": 300, "batch_size": 128, "learning_rate": 0.01}, "batch and weight decay"),
        ("resnet32-cifar", 95, {"epochs": 300, "batch_size": 128, "learning_rate": 0.01}, "batch and weight decay"),
        ("mobilenet_v2-cifar", 98, {**_WRN_TUNE, "learning_rate": 0.0128}, unsaid),
        ("wrn-22-8", 99.9, {**_WRN_TUNE, "learning_rate": 0.0128}, unsaid),
    )
    return [
        *(
            _one_shot(
                "resnet50",
                _pretrained("resnet50"),
                percent,
                {**_RESNET50_TUNE, "learning_rate": rate, "weight_decay": decay},
                ours,
            )
            for percent, rate, decay, ours in resnet50
        ),
        _one_shot("mobilenet_v1", mobilenet_v1, 75.28, {**_MOBILENET_TUNE, "learning_rate": 0.0256}, between),
        _one_shot("mobilenet_v1", mobilenet_v1, 90, {**_MOBILENET_TUNE, "learning_rate": 0.0512}, between),
        _one_shot(
            "mobilenet_v1", mobilenet_v1, 90, {**_MOBILENET_TUNE, "learning_rate": 0.0512}, between, threshold=0.002
        ),
        *(_one_shot(model, model, percent, tune, ours) for model, percent, tune, ours in small),
        _one_shot(
            "mobilenet_v2-cifar",
            "mobilenet_v2-cifar",
            98,
            {**_WRN_TUNE, "learning_rate": 0.0128},
            unsaid,
            threshold=2e-4,
        ),
    ]


def _one_shot(
    short: str,
    model: str | dict[str, Any],
    percent: float,
    fine_tune: dict[str, Any],
    ours: str,
    threshold: float | None = None,
) -> Recipe:
    method = "global" if threshold is None else "global-mt"
    return _recipe(
        f"global-mp-{short}-{percent:g}" + ("" if threshold is None else "-mt"),
        "Global MP",
        method,
        ours,
        model=model,
        targets={"sparsity": round(percent / 100, 6)},
        baselines=[method],
        minimum_threshold=threshold,
        fine_tune=fine_tune,
    )


def _gradual() -> list[Recipe]:
    return [
        _recipe(
            f"global-mp-resnet50-{percent:g}-gradual",
            "Global MP",
            "global-gradual",
            "the paper gives no recipe of the gradual runs: the one-shot one, all with the rate at 90 % and the decay "
            "at 80 %. purlkit.prune(method='global-gradual', training=…) trains an untrained network",
            runs="library",
            model={"name": "resnet50", "weights": {"train": {**_RESNET50_TUNE, "learning_rate": 0.1024}}},
            targets={"sparsity": round(percent / 100, 6)},
            fine_tune={**_RESNET50_TUNE, "learning_rate": 0.1024, "weight_decay": 2.3e-5},
        )
        for percent in (80, 90, 95.3, 98.05)
    ]


def _fastgrnn() -> list[Recipe]:
    """Of the 9 + 80 columns of both low-rank matrices so many go that the ranks are left."""
    train = {"epochs": 300, "batch_size": 100, "optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.0}
    return [
        _recipe(
            f"global-mp-fastgrnn-{input_rank}-{state_rank}",
            "Global MP",
            "columns",
            "the training; the target is a share of columns. purlkit.baselines.columns.prune_columns is the method",
            runs="library",
            model={"name": "fastgrnn", "weights": {"train": train}},
            targets={"sparsity": (89 - input_rank - state_rank) / 89},
            fine_tune=train,
            resources={},
        )
        for input_rank, state_rank in ((9, 8), (9, 7), (8, 7))
    ]
