"""Iterative pruning: what a stage removed stays removed in all that follow, and each has seeds and names of its own."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from purlkit import checkpoint
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.results import Episode
from purlkit.seeds import derive, stage_seed
from purlkit.spec import JobSpec
from purlkit.zoo import datasets, models
from workers import pipeline, stages
from workers.candidates import best_episode, mean_policy
from workers.dense import Dense
from workers.found import Found
from workers.stages import Stage
from workers.tuning import Entrant, Leg, Run, fine_tune

SPEC = JobSpec.model_validate(
    {
        "model": {"name": "mlp", "kwargs": {"hidden": 16}},
        "targets": {"sparsity": 0.9},
        "stages": [0.3, 0.6, 0.9],
        "fine_tune": {"epochs": 1},
    }
).resolve()
SPLITS = datasets.load(SPEC.data, Path())
# A stand-in for the actor that counts signs of life.
PULSE = SimpleNamespace(tick=SimpleNamespace(remote=lambda: None))


def dense_net() -> Dense:
    model = models.build_for(SPEC)
    return Dense(prunable_layers(model), checkpoint.tensors_of(model), checkpoint.fingerprint(model), 0.1)


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
    return Found([walk], [walk], seconds=2.0, images=100)


def played(stage: Stage, *actions: int) -> Stage:
    entrant = mean_policy(stage, found(*actions))
    return stages.after(stage, entrant, tuned(stage, entrant), seconds=3.0, images=1000)


def tuned(stage: Stage, entrant: Entrant) -> Run:
    leg = Leg("tuned", entrant, SPEC.fine_tune, stage.seed, until=1)
    return fine_tune(SPEC.model_dump_json(), stage.tensors, leg, SPLITS, PULSE)


def test_no_stage_revives_what_another_removed() -> None:
    first = stages.first(SPEC, dense_net())
    second = played(first, 1, 2, 3)
    third = played(second, 3, 1, 0)
    last = mean_policy(third, found(0, 2, 5))

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
    assert mean_policy(second, found(0, 0, 1)).tensors is second.tensors
    assert mean_policy(first, found(0, 0, 1)).tensors is None  # the dense one, which every candidate has


def test_the_mask_is_carried_and_not_guessed_from_zeros() -> None:
    second = played(stages.first(SPEC, dense_net()), 1, 2, 3)
    name, keep = next(iter(second.mask.keep.items()))
    second.tensors[f"{name}.weight"][~keep] = 5.0  # as a fine-tune that forgot its mask would leave it

    assert not second.layers[0].weight[~keep].any()
    assert mean_policy(second, found(0, 0, 1)).mask & second.mask == mean_policy(second, found(0, 0, 1)).mask


def test_costs_add_up_over_the_stages() -> None:
    first = stages.first(SPEC, dense_net())
    run = tuned(first, entrant := mean_policy(first, found(1, 2, 3)))
    second = stages.after(first, entrant, run, seconds=3.0, images=1000)

    assert second.images == 100 + 1000  # the search's and one epoch of digits
    assert (second.seconds, second.device_seconds) == (3.0, pytest.approx(2.0 + run.device_seconds))
    assert run.device_seconds > 0
    assert mean_policy(second, found(0, 0, 1)).images == 1100 + 100


def test_each_stage_is_fine_tuned_for_its_own_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    legs: list[Leg] = []
    net, kept = dense_net(), SimpleNamespace(event=lambda *_: None, save=lambda *_: None)

    def run(given: list[Leg]) -> list[Run]:
        legs.extend(given)
        return [Run(given[0].until, net.tensors, 0.5)]

    monkeypatch.setattr(pipeline, "_track", lambda *_: SimpleNamespace(run=run))
    stage = stages.first(SPEC.model_copy(update={"stage_epochs": (3, 4)}), net)
    costs = []
    while not stage.is_last:
        stage = pipeline._next_stage(SimpleNamespace(link=kept), net, stage, found(1, 2, 3), None, 1000)
        costs.append(stage.images)

    assert [(leg.training.epochs, leg.until) for leg in legs] == [(3, 3), (4, 4)]
    assert costs == [100 + 3000, 200 + 7000]


def test_a_stage_survives_its_bytes() -> None:
    second = played(stages.first(SPEC, dense_net()), 1, 2, 3)

    again = Stage.from_bytes(SPEC, 1, second.to_bytes())

    assert again.mask == second.mask
    assert (again.number, again.images, again.seconds) == (1, second.images, second.seconds)
    assert again.device_seconds == second.device_seconds
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


CURVE = SPEC.model_copy(update={"stages": (), "targets": SPEC.targets.model_copy(update={"sparsity": (0.5, 0.8)})})


def test_each_target_begins_with_the_dense_network_under_names_of_its_own() -> None:
    first, second = (stages.first(CURVE, dense_net(), point) for point in (0, 1))

    assert (first.target, second.target) == (0.5, 0.8)
    assert (first.is_last, second.is_last) == (True, True)
    assert (first.saved_as("search"), second.saved_as("search")) == ("search", "search-p1")
    assert first.seed == second.seed == CURVE.seed  # so that what one learnt is true for the other
    assert mean_policy(second, found(1, 2, 3)).mask.sparsity == pytest.approx(0.8, abs=0.001)


def test_episodes_are_numbered_on_over_stages_and_targets() -> None:
    third = Stage(SPEC, 2, {}, Mask({}))
    second = stages.first(CURVE, dense_net(), 1)
    greedy = found(1, 2, 3).greedy[0]
    searched = greedy.model_copy(update={"kind": "search", "index": 4})

    assert [third.placed(episode).index for episode in (searched, greedy)] == [2 * 55 + 4, 2 * 5]
    assert (third.placed(searched).stage, third.placed(searched).point) == (2, 0)
    assert (second.placed(searched).index, second.placed(searched).point) == (55 + 4, 1)


def test_the_best_episode_is_the_one_with_the_highest_last_reward_made_exact() -> None:
    stage = stages.first(CURVE, dense_net(), 1)
    [walk] = found(0, 0, 0).greedy
    walks = [
        walk.model_copy(update={"index": index, "actions": actions, "rewards": rewards})
        for index, (actions, rewards) in enumerate(
            [
                ((1, 1, 1), (0.0, 0.0, -0.5)),
                ((2, 4, 6), (-3.0, -3.0, -0.2)),
                ((7, 7, 7), (0.0, 0.0, -0.2)),  # as good, and later
                ((5, 5), (0.0, -0.1)),  # ended early
            ]
        )
    ]

    best = best_episode(stage, Found(walks, [walk], seconds=2.0, images=100))

    assert best is not None
    assert best.note is not None
    assert best.note.startswith("episode 1; alphas scaled by")
    assert best.alphas is not None
    assert [alpha / best.alphas[0] for alpha in best.alphas] == pytest.approx([1, 2, 3])  # 0.4, 0.8, 1.2
    assert best.mask.sparsity == pytest.approx(0.8, abs=0.001)
    assert best_episode(stage, Found(walks[3:], [walk], seconds=2.0, images=100)) is None


def test_what_was_found_survives_its_bytes() -> None:
    before = found(1, 2, 3)

    assert Found.from_bytes(before.to_bytes()) == before
    assert before.device_seconds == 2.0


def test_a_warm_search_remembers_the_episodes_of_the_targets_before_and_no_greedy_walk() -> None:
    settings = CURVE.search.model_copy(update={"warm_start": True})
    warm = stages.first(CURVE.model_copy(update={"search": settings}), dense_net(), 1)
    [greedy] = found(1, 2, 3).greedy
    before = [greedy, greedy.model_copy(update={"kind": "search"})]

    steps = pipeline._memory(warm, before, 0.5)

    # Accuracy as asked for; 0.5 of 0.8 sparse.
    assert [(step.action, step.reward) for step in steps] == [(action, pytest.approx(-0.375)) for action in (1, 2, 3)]
    assert pipeline._memory(stages.first(CURVE, dense_net(), 1), before, 0.5) == []


@pytest.mark.parametrize(
    ("asked", "target"), [({}, 0.9), ({"max_drop": 0.25}, 0.65), ({"max_drop": 0.95}, -0.05), ({"accuracy": 0.5}, 0.5)]
)
def test_the_accuracy_to_keep_is_the_dense_networks_own_less_what_may_be_lost(
    asked: dict[str, float], target: float
) -> None:
    spec = JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"sparsity": 0.8, **asked}})

    assert pipeline.target_accuracy(spec, 0.9) == pytest.approx(target)
