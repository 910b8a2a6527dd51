"""Random policies: one that a retraining can't bear loses, and does not take the job with it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from purlkit import checkpoint
from purlkit.errors import Diverged
from purlkit.spec import JobSpec
from purlkit.zoo import datasets, models
from workers.randomly import DIVERGED, best_of, scores_of

# A stand-in for the actor that counts signs of life.
PULSE: Any = SimpleNamespace(tick=SimpleNamespace(remote=lambda: None))


def scores_at(learning_rate: float) -> list[float]:
    """What two policies are worth, retrained at this rate."""
    spec = JobSpec.model_validate(
        {
            "model": {"name": "mlp", "kwargs": {"hidden": 16}},
            "targets": {"sparsity": 0.8},
            "search": {"retrain": {"learning_rate": learning_rate, "batch_size": 20, "momentum": 0.99}},
        }
    ).resolve()
    dense = checkpoint.tensors_of(models.build_for(spec))
    policies = {0: [0.6, 0.6, 0.6], 1: [1.0, 0.2, 0.6]}
    scores = scores_of(spec.model_dump_json(), dense, policies, datasets.load(spec.data, Path()), PULSE)
    return [scores[index][0] for index in policies]


def test_a_policy_is_worth_the_accuracy_that_its_retraining_leaves() -> None:
    assert all(0 < score <= 1 for score in scores_at(0.01))


def test_one_whose_retraining_diverges_is_worth_less_than_any_other() -> None:
    assert scores_at(100) == [DIVERGED, DIVERGED]


def test_the_best_is_the_first_of_the_best() -> None:
    assert best_of({0: (DIVERGED, 1.0), 1: (0.5, 1.0), 2: (0.7, 1.0), 3: (0.7, 1.0)}) == 2


def test_where_all_diverge_the_field_to_blame_is_named() -> None:
    with pytest.raises(Diverged, match="each of 2 random policies") as refused:
        best_of({0: (DIVERGED, 1.0), 1: (DIVERGED, 1.0)})

    assert refused.value.at == "/search/retrain/learning_rate"
