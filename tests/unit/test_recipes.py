"""Every recipe resolves, says what its paper says, and runs: a few steps on made-up images of the right shape."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from purlkit import baselines
from purlkit.baselines.columns import prune_columns
from purlkit.baselines.gradual import global_gradual, gmp
from purlkit.env import PruningEnv
from purlkit.errors import UnknownName
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.policy import mask_for_alphas
from purlkit.recipes import Recipe, recipe, recipes
from purlkit.spec import Dataset, JobSpec
from purlkit.training.data import Images
from purlkit.training.loop import train
from purlkit.zoo import catalog, datasets, models

ALL = list(recipes().values())


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_it_is_a_job_that_can_be_posted(one: Recipe) -> None:
    again = JobSpec.model_validate_json(one.spec.model_dump_json())

    assert again == one.spec == again.resolve()
    assert one.name == one.spec.name
    if one.runs == "job":
        assert one.method in {"purl", *one.spec.baselines}
    rows = one.published
    assert rows
    assert {(row.model, row.data, row.source) for row in rows} == {
        (one.spec.model.name, one.spec.data.name, one.source)
    }


def test_purls_final_run_is_the_default_search_in_three_stages() -> None:
    spec = recipe("purl-resnet50-imagenet-90-epochs").spec

    assert spec.search == JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"sparsity": 0.5}}).search
    assert spec.stages == (0.3655, 0.7573, 0.8027)
    assert spec.fine_tune.epochs * len(spec.stages) == 90
    assert spec.model.weights == "pretrained"


def test_its_longer_run_trains_longest_after_the_last_stage() -> None:
    spec = recipe("purl-resnet50-imagenet-120-epochs").spec

    assert [tuning.epochs for tuning in spec.tunings] == [30, 30]
    assert spec.fine_tune.epochs == 60
    assert spec.stages == (0.3655, 0.7573, 0.8027)


def test_the_ablations_differ_from_their_baseline_in_one_thing() -> None:
    prefix = "purl-resnet50-cifar10-"
    base = recipe(f"{prefix}dense-rewards").spec.search
    changes = {
        one.name.removeprefix(prefix): {
            name for name in type(base).model_fields if getattr(one.spec.search, name) != getattr(base, name)
        }
        for one in ALL
        if one.name.startswith(prefix)
    }

    assert changes == {
        "sparse-rewards": {"dense"},
        "dense-rewards": set(),
        "magnitude-target": {"criterion", "alphas"},
        "reward-2": {"reward"},
        "reward-3": {"reward"},
        "step-0.2": {"alphas"},
        "state-2n": {"state"},
    }
    assert len(base.alphas) == 23


@pytest.mark.parametrize(
    ("name", "tuning"),
    [
        ("global-mp-resnet50-80", (100, 256, 0.0256, 0.875, 2.3e-5, 0.1)),
        ("global-mp-resnet50-90", (100, 256, 0.1024, 0.875, 7e-6, 0.1)),
        ("global-mp-wrn-28-8-90", (200, 128, 0.0512, 0.9, 5e-4, 0.0)),
        ("global-mp-wrn-28-8-95", (200, 128, 0.0256, 0.9, 5e-4, 0.0)),
        ("global-mp-wrn-28-8-97.5", (200, 128, 0.0128, 0.9, 5e-4, 0.0)),
        ("global-mp-resnet32-cifar-90", (300, 128, 0.01, 0.9, 5e-4, 0.0)),
        ("global-mp-mobilenet_v1-90-mt", (120, 256, 0.0512, 0.9, 4e-5, 0.0)),
    ],
)
def test_global_mps_own_rates_and_epochs(name: str, tuning: tuple[float, ...]) -> None:
    t = recipe(name).spec.fine_tune

    assert (t.epochs, t.batch_size, t.learning_rate, t.momentum, t.weight_decay, t.label_smoothing) == tuning


def test_its_minimum_thresholds_and_columns() -> None:
    assert recipe("global-mp-mobilenet_v1-90-mt").spec.minimum_threshold == 0.002
    assert recipe("global-mp-mobilenet_v2-cifar-98-mt").spec.minimum_threshold == 0.0002
    assert recipe("global-mp-fastgrnn-9-8").spec.targets.sparsity == 72 / 89


def test_a_name_that_is_none() -> None:
    with pytest.raises(UnknownName, match=r"use one of .*purl-wrn-28-10-cifar100"):
        recipe("purl-vgg16")


def in_small(one: Recipe) -> tuple[JobSpec, Images, Images]:
    """The recipe on two made-up images of its own shape, with one epoch and one walk."""
    data = catalog.dataset(one.spec.data.name)
    shape, classes = data.shape_with(one.spec.data.kwargs), data.classes_with(one.spec.data.kwargs)
    made_up = Dataset(name="procedural", kwargs={"shape": shape, "classes": classes, "images": 40})
    spec = one.spec.model_dump()
    changes: dict[str, Any] = {
        "dataset": made_up.model_dump(),
        "model": {**spec["model"], "weights": {"train": {}}},
        "search": {**spec["search"], "episodes": 1, "retrain": {"images": 2, "batch_size": 2}},
        "fine_tune": {**spec["fine_tune"], "epochs": 2 if one.method in ("global-gradual", "gmp") else 1},
        "resources": {},
    }
    splits = datasets.load(made_up, Path())
    return JobSpec.model_validate({**spec, **changes}).resolve(), splits.train[:2], splits.reward[:2]


def a_few_steps(one: Recipe) -> None:
    """By the recipe's own method and settings, far enough to prune to its target and train on."""
    spec, train_images, reward_images = in_small(one)
    model = models.build_for(spec)
    layers = prunable_layers(model)
    target = spec.sparsities[-1]
    if one.method == "purl":
        env = PruningEnv(
            model,
            train_images,
            reward_images,
            search=spec.search,
            target_accuracy=0.9,
            target_sparsity=target,
            retrain_seed=0,
        )
        env.may_end_early = False  # after one step on two images any network may be at 0 %
        env.step(5)
        env.step(6)
        env.reset()
        grid = spec.search.alphas
        alphas = [grid[len(grid) // 2]] * len(layers)
        mask = mask_for_alphas(layers, alphas, target=target, criterion=spec.search.criterion).mask
    elif one.method in ("global-gradual", "gmp"):
        find = global_gradual if one.method == "global-gradual" else gmp
        mask = find(model, train_images, target, training=spec.fine_tune)
    elif one.method == "columns":
        mask = Mask.dense(layers) & _columns(model, target)
    elif one.method == "amc":
        mask = baselines.method("amc")(layers, target, score=lambda mask: mask.sparsity, episodes=1)
    else:
        options = {"minimum_threshold": spec.minimum_threshold} if one.method == "global-mt" else {}
        mask = baselines.method(one.method)(layers, target, **options)
    if one.method not in ("global-gradual", "gmp"):
        train(model, train_images, spec.fine_tune, seed=0, mask=mask)

    left = Mask.from_weights(layers)
    assert left & mask == left
    if one.method != "columns":
        assert left.sparsity >= target - 0.001
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def _columns(model: torch.nn.Module, share: float) -> Mask:
    """FastGRNN's ranks are the columns of the factors that expand: 9 and 80 of them."""
    layers = prunable_layers(model)
    thin = [layer for layer in layers if layer.name.endswith("expand")]
    pruned = prune_columns(thin, share)
    kept = sum(int(pruned.keep[layer.name].any(0).sum()) for layer in thin)
    assert kept == round((1 - share) * 89)
    return Mask({**Mask.dense(layers).keep, **pruned.keep})


# One of each family of networks; `make test-long` runs all, the large ones among them.
SHORT = [
    "global-mp-resnet50-80",
    "global-mp-resnet32-cifar-90",
    "global-mp-wrn-22-8-99.9",
    "global-mp-mobilenet_v1-90-mt",
    "global-mp-mobilenet_v2-cifar-98-mt",
    "global-mp-fastgrnn-9-8",
    "purl-mobilenet_v2-imagenet",
    "purl-efficientnet_b2-imagenet",
]


@pytest.mark.parametrize("name", SHORT)
def test_one_recipe_of_each_family_runs(name: str) -> None:
    a_few_steps(recipe(name))


@pytest.mark.long
@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_every_recipe_runs(one: Recipe) -> None:
    a_few_steps(one)


def test_stages_rise() -> None:
    assert all(low < high for one in ALL for low, high in pairwise(one.spec.stages))
