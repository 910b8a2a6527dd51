"""One fine-tuning in legs: stopped at a rung, saved, and taken up again to the bits of one that never stopped."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from purlkit import baselines, checkpoint
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.spec import JobSpec
from purlkit.training.together import Team
from purlkit.zoo import datasets, models
from workers import tuning
from workers.tuning import Entrant, Leg, Run, fine_tune

SPEC = JobSpec.model_validate(
    {
        "model": {"name": "mlp", "kwargs": {"hidden": 16}},
        "targets": {"sparsity": 0.8},
        "fine_tune": {"epochs": 4, "batch_size": 250},
    }
).resolve()
SPLITS = datasets.load(SPEC.data, Path()).without_test()
# A stand-in for the actor that counts signs of life.
PULSE: Any = SimpleNamespace(tick=SimpleNamespace(remote=lambda: None))


@pytest.fixture(scope="module")
def dense() -> dict[str, torch.Tensor]:
    return checkpoint.tensors_of(models.build_for(SPEC))


def an_entrant(dense: dict[str, torch.Tensor]) -> Entrant:
    model = models.build_for(SPEC)
    checkpoint.load_into(model, dense)
    return Entrant("lamp", None, baselines.method("lamp")(prunable_layers(model), 0.8))


def tuned(dense: dict[str, torch.Tensor], until: int, run: Run | None = None, *, seed: int = 1) -> Run:
    leg = Leg("run", an_entrant(dense), SPEC.fine_tune, seed, until, run)
    return fine_tune(SPEC.model_dump_json(), dense, leg, SPLITS, PULSE)


def bits(run: Run) -> list[bytes]:
    return [tensor.numpy().tobytes() for _, tensor in sorted(run.tensors.items())]


def test_a_survivor_ends_with_the_bits_of_an_uninterrupted_run(dense: dict[str, torch.Tensor]) -> None:
    whole = tuned(dense, 4)

    first = Run.from_bytes(tuned(dense, 1).to_bytes())
    second = Run.from_bytes(tuned(dense, 3, first).to_bytes())
    last = tuned(dense, 4, second)

    assert bits(last) == bits(whole)
    assert bits(last) != bits(second)
    assert last.select[4] == whole.select[4]
    assert sorted(last.select) == [1, 3, 4]
    assert (last.accuracy_pruned, last.paused) == (whole.accuracy_pruned, {})
    assert bits(tuned(dense, 4, seed=2)) != bits(whole)


def test_a_task_that_takes_too_long_hands_over_what_it_has(
    dense: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(dense, 3)
    monkeypatch.setattr(tuning, "TASK_SECONDS", 0.0)
    run, pieces = tuned(dense, 3), 1
    while 3 not in run.select:
        run, pieces = tuned(dense, 3, run), pieces + 1

    assert pieces == 3
    assert sorted(run.select) == [3]  # measured where it is compared, not where it happened to stop
    assert bits(run) == bits(whole)


def test_an_epoch_that_takes_too_long_is_handed_over_in_its_middle_with_all_its_generators(
    dense: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(dense, 1)
    monkeypatch.setattr(tuning, "PIECE_SECONDS", -1.0)
    run, stops = tuned(dense, 1), []
    while 1 not in run.select:
        stops.append((run.epochs, int(run.paused["batches"])))
        assert {"generator/order", "generator/cpu"} <= set(run.paused)
        run = tuned(dense, 1, Run.from_bytes(run.to_bytes()))

    assert stops == [(0, 1), (0, 2), (0, 3)]
    assert bits(run) == bits(whole)
    assert run.select == whole.select


def test_the_seconds_of_a_device_are_those_of_all_workers(
    dense: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "train", lambda *_, **__: None)
    leg = Leg("run", an_entrant(dense), SPEC.fine_tune, 1, 4)
    alone, shared = (
        fine_tune(SPEC.model_dump_json(), dense, leg, SPLITS, PULSE, team) for team in (None, Team(rank=0, size=3))
    )

    assert alone.device_seconds == alone.seconds > 0
    assert shared.device_seconds == pytest.approx(3 * shared.seconds)
    assert Run.from_bytes(shared.to_bytes()).device_seconds == shared.device_seconds


def test_what_is_removed_stays_removed(dense: dict[str, torch.Tensor]) -> None:
    model = models.build_for(SPEC)
    checkpoint.load_into(model, tuned(dense, 2).tensors)

    assert Mask.from_weights(prunable_layers(model)) == an_entrant(dense).mask


def test_equal_masks_of_equal_networks_are_one_network(dense: dict[str, torch.Tensor]) -> None:
    one = an_entrant(dense)
    other = Entrant("purl", "mean", one.mask, images=100)
    later = Entrant("purl", "mean", one.mask, tensors=dense)  # of a stage's network, which is another

    assert one.network == other.network != later.network


def test_batch_norm_is_measured_anew_before_the_pruned_accuracy_if_asked_for() -> None:
    told = {"model": {"name": "digits-resnet", "kwargs": {"width": 2}}, "targets": {"sparsity": 0.5}}
    plain, again = (
        JobSpec.model_validate({**told, "fine_tune": {"epochs": 1, "batch_norm_images": images}}).resolve()
        for images in (None, 500)
    )
    model = models.build_for(plain)
    tensors = checkpoint.tensors_of(model)
    entrant = Entrant("global", None, Mask.dense(prunable_layers(model)))

    without, with_it = (
        fine_tune(spec.model_dump_json(), tensors, Leg("run", entrant, spec.fine_tune, 0, 1), SPLITS, PULSE)
        for spec in (plain, again)
    )

    # Fresh statistics (mean 0, variance 1) are of no network at all: with measured ones the answers are others.
    assert without.accuracy_pruned != with_it.accuracy_pruned
    assert plain.fingerprint != again.fingerprint


def test_a_run_that_diverges_says_in_which_epoch_and_what_it_cost_and_goes_no_further(
    dense: dict[str, torch.Tensor],
) -> None:
    hot = SPEC.model_copy(update={"fine_tune": SPEC.fine_tune.model_copy(update={"learning_rate": 100.0})})
    leg = Leg("run", an_entrant(dense), hot.fine_tune, 1, 4)

    run = Run.from_bytes(fine_tune(hot.model_dump_json(), dense, leg, SPLITS, PULSE).to_bytes())

    assert run.diverged == "the training diverged in epoch 1 of 4: lower its learning_rate"
    assert (run.epochs, run.select, run.paused) == (1, {}, {})
    assert 0 < run.accuracy_pruned < 1
