"""The dense training goes on where a killed attempt had saved it, in the middle of an epoch too, to the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from purlkit import checkpoint
from purlkit.spec import JobSpec
from purlkit.zoo import datasets
from tests.local_job import LocalLink, local_job
from workers import dense
from workers.dense import ON_THE_WAY, SAVED, dense_baseline
from workers.link import Interrupted
from workers.tuning import Run

SPEC = JobSpec.model_validate(
    {
        "model": {"name": "mlp", "kwargs": {"hidden": 16}, "weights": {"train": {"epochs": 2, "batch_size": 250}}},
        "targets": {"sparsity": 0.5},
    }
).resolve()
SPLITS = datasets.load(SPEC.data, Path()).without_test()


def bits(link: LocalLink) -> dict[str, list[float]]:
    tensors, _ = checkpoint.from_bytes(link.saved[SAVED])
    return {name: tensor.flatten().tolist() for name, tensor in tensors.items()}


@pytest.mark.parametrize("saves", [1, 4, 6])
def test_killed_after_any_step_it_goes_on_there(saves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed, whole = local_job(SPEC, tmp_path / "whole", {})
    dense_baseline(undisturbed, SPLITS, None)
    monkeypatch.setattr(dense, "SAVE_SECONDS", -1.0)
    first, before = local_job(SPEC, tmp_path / "first", {})

    def kill(name: str) -> None:
        if before.newly_saved.count(name) == saves:
            before.interrupted = Interrupted("drain")

    before.on_save = kill
    with pytest.raises(Interrupted):
        dense_baseline(first, SPLITS, None)
    steps = before.counter
    again, after = local_job(SPEC, tmp_path / "again", before.saved)
    dense_baseline(again, SPLITS, None)

    so_far = Run.from_bytes(before.saved[ON_THE_WAY])
    assert (so_far.epochs, int(so_far.paused.get("batches", 0))) == divmod(saves, 4)
    assert whole.newly_saved == [SAVED], "what takes less than a minute is saved at its end only"
    assert steps + after.counter == whole.counter + 1, "but for the step in which it was killed none was taken twice"
    assert bits(after) == bits(whole)
