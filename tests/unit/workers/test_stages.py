"""Iterative pruning: what a stage removed stays removed in all that follow, and each has seeds and names of its own."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import torch

from purlkit import checkpoint
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.results import Episode
from purlkit.seeds import derive, stage_seed
from purlkit.spec import JobSpec
from purlkit.zoo import models
from workers import pipeline, race, stages
from workers.dense import Dense
from workers.search import Found
from workers.stages import Stage

SPEC = JobSpec.model_validate(
    {
        "model": {"name": "mlp", "kwargs": {"hidden": 16}},
        "targets": {"sparsity": 0.9},
        "stages": [0.3, 0.6, 0.9],
        "fine_tune": {"epochs": 1},
    }
).resolve()
# A stand-in for the actor that counts signs of life.
PULSE = SimpleNamespace(tick=SimpleNamespace(remote=lambda: None))


def dense_net() -> Dense:
    model = models.build_for(SPEC)
    return Dense(prunable_layers(model), checkpoint.tensors_of(model), checkpoint.fingerprint(model), 0.1, 0.1)


def found(*actions: int) -> Found:
    walk = Episode(
        index=0,
        kind="greedy",
        actions=actions,
        rewards=(0.0,) * 3,
        accuracies=(0.5,) * 3,
        sparsities=(0.5,) * 3,
        seconds=1.0,
        runner=1,
        weights_version=1,
    )
    return Found([walk], [walk], seconds=2.0, images=100, steps=20, steps_computed=20)


def played(stage: Stage, *actions: int) -> Stage:
    entrant = pipeline._purl(stage, found(*actions))
    finisher = race.fine_tune(SPEC.model_dump_json(), stage.tensors, entrant, "unused", PULSE, seed=stage.seed)
    return stages.after(stage, entrant, finisher)


def test_no_stage_revives_what_another_removed() -> None:
    first = stages.first(SPEC, dense_net())
    second = played(first, 1, 2, 3)
    third = played(second, 3, 1, 0)
    last = pipeline._purl(third, found(0, 2, 5))

    masks = [first.mask, second.mask, third.mask, last.mask]
    for before, after in pairwise(masks):
        assert before & after == after
    assert [round(mask.sparsity, 3) for mask in masks] == [0.0, 0.3, 0.6, 0.9]
    for stage in (second, third):
        assert Mask.from_weights(stage.layers) == stage.mask
        weights = {f"{name}.weight": keep for name, keep in stage.mask.keep.items()}
        assert not any(stage.tensors[name][~keep].any() for name, keep in weights.items())


def test_a_stage_starts_from_the_fine_tuned_network_of_the_one_before() -> None:
    first = stages.first(SPEC, dense_net())
    second = played(first, 1, 2, 3)

    moved = [name for name in first.tensors if not torch.equal(first.tensors[name], second.tensors[name])]
    assert set(moved) == set(first.tensors)
    assert pipeline._purl(second, found(0, 0, 1)).tensors is second.tensors
    assert pipeline._purl(first, found(0, 0, 1)).tensors is None  # the dense one, which every candidate has


def test_the_mask_is_carried_and_not_guessed_from_zeros() -> None:
    second = played(stages.first(SPEC, dense_net()), 1, 2, 3)
    name, keep = next(iter(second.mask.keep.items()))
    second.tensors[f"{name}.weight"][~keep] = 5.0  # as a fine-tune that forgot its mask would leave it

    assert not second.layers[0].weight[~keep].any()
    assert pipeline._purl(second, found(0, 0, 1)).mask & second.mask == pipeline._purl(second, found(0, 0, 1)).mask


def test_costs_add_up_over_the_stages() -> None:
    second = played(stages.first(SPEC, dense_net()), 1, 2, 3)

    assert second.images == 100 + 1000  # the search's and one epoch of digits
    assert second.seconds > 2.0
    assert pipeline._purl(second, found(0, 0, 1)).images == 1100 + 100


def test_a_stage_survives_its_bytes() -> None:
    second = played(stages.first(SPEC, dense_net()), 1, 2, 3)

    again = Stage.from_bytes(SPEC, 1, second.to_bytes())

    assert again.mask == second.mask
    assert (again.number, again.images, again.seconds) == (1, second.images, second.seconds)
    assert again.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(tensor, second.tensors[name]) for name, tensor in again.tensors.items())


def test_targets_seeds_and_names() -> None:
    first = stages.first(SPEC, dense_net())
    last = Stage(SPEC, 2, first.tensors, first.mask)

    assert (first.target, last.target) == (0.3, 0.9)
    assert (first.is_last, last.is_last) == (False, True)
    assert (first.saved_as("search"), last.saved_as("search")) == ("search", "search-2")
    assert first.seed == SPEC.seed  # so a job without stages has the bits that it always had
    assert last.seed == stage_seed(SPEC.seed, 2) == derive(SPEC.seed, "stage", 2)


def test_batch_norm_is_measured_anew_before_the_pruned_accuracy_if_asked_for() -> None:
    told = {"model": {"name": "digits-resnet", "kwargs": {"width": 2}}, "targets": {"sparsity": 0.5}}
    specs = [
        JobSpec.model_validate({**told, "fine_tune": {"epochs": 1, "batch_norm_images": images}}).resolve()
        for images in (None, 500)
    ]
    model = models.build_for(specs[0])
    tensors = checkpoint.tensors_of(model)
    entrant = race.Entrant("global", None, Mask.dense(prunable_layers(model)))

    plain, again = (
        race.fine_tune(spec.model_dump_json(), tensors, entrant, "unused", PULSE, seed=0).contender.candidate
        for spec in specs
    )

    # Fresh statistics (mean 0, variance 1) are of no network at all: with measured ones the answers are others.
    assert plain.accuracy_pruned != again.accuracy_pruned
    assert specs[0].fingerprint != specs[1].fingerprint
    assert again.top5_accuracy is not None
    assert again.top5_accuracy >= again.accuracy
    assert again.cost is not None
    assert again.cost.flops_pruned == 0
