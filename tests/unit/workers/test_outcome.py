"""What a result says of its targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from purlkit.results import Finish, Outcome, Phase
from purlkit.spec import JobSpec
from services.testing import a_blob, a_result
from tests.local_job import local_job
from workers.outcome import why_not_met
from workers.publish import headline


def why_not(sparsity: float, measured: float, *, weights: int = 10_000, **targets: Any) -> str | None:
    spec = JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"sparsity": 0.9, **targets}})
    return why_not_met(spec, saved=sparsity, accuracy=measured, dense=0.98, weights=weights)


def test_targets_that_are_met_need_no_reason() -> None:
    assert why_not(0.9, 0.1) is None
    assert why_not(0.9, 0.95, accuracy=0.95) is None
    assert why_not(0.9, 0.97, max_drop=0.02) is None


def test_too_low_an_accuracy_is_told_with_both_numbers() -> None:
    assert why_not(0.9, 0.94, accuracy=0.95) == "test accuracy 0.9400 is under the 0.9500 asked for"
    assert why_not(0.9, 0.94, max_drop=0.02) == "test accuracy 0.9400 is under the 0.9600 asked for"


def test_exactly_as_much_lost_as_may_be_is_met_whatever_the_rounding() -> None:
    spec = JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"sparsity": 0.9, "max_drop": 0.1}})
    assert 0.8 - 0.1 > 0.7

    assert why_not_met(spec, saved=0.9, accuracy=0.7, dense=0.8, weights=10_000) is None


def test_a_target_between_two_whole_weights_is_told_with_both() -> None:
    # 75 weights: 67 removed are 0.8933, 68 are 0.9067.
    assert why_not(68 / 75, 0.9, weights=75) == (
        "75 prunable weights allow no sparsity between 0.8933 and 0.9067, so 0.9 can't be met more exactly"
    )


def test_a_policy_that_was_not_scaled_is_told() -> None:
    assert why_not(0.4, 0.9) == "sparsity 0.4000 was reached instead of 0.9: the policy was not scaled to the target"


def test_the_headline_is_the_highest_target_that_is_met_else_the_lowest() -> None:
    [point] = a_result(a_blob(b"x")).points
    low, middle, high = (point.model_copy(update={"target": target}) for target in (0.5, 0.8, 0.9))
    missed = {"targets_met": False, "reason": "too far"}

    assert headline([low, middle, high]) is high
    assert headline([low, middle, high.model_copy(update=missed)]) is middle
    assert headline([p.model_copy(update=missed) for p in (low, middle, high)]).target == 0.5


def test_progress_runs_on_over_the_targets(tmp_path: Path) -> None:
    spec = JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"sparsity": [0.5, 0.8, 0.9]}}).resolve()
    job, _ = local_job(spec, tmp_path, {})
    way = [(phase, point) for point in range(3) for phase in (Phase.SEARCH, Phase.POLICY, Phase.RACE)]

    fractions = [job._start_of(phase, point) for phase, point in [*way, (Phase.VERIFY, 0)]]

    assert fractions == sorted(set(fractions))
    assert fractions[0] == pytest.approx(0.1)
    assert fractions[-1] == pytest.approx(0.98)


def test_the_last_word_of_the_largest_job_names_all_its_files() -> None:
    """Twenty targets with five files each, and those of the whole job."""
    assert Finish(outcome=Outcome.SUCCEEDED, artifacts=tuple(f"file-{i}" for i in range(20 * 5 + 3)))
