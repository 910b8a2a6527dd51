"""The arithmetic of the protocol's two benchmarks, and that a run that was stopped goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.budget import bootstrap, holm, table
from benchmarks.units import Lines, Unit
from benchmarks.yardstick import ALLOCATIONS, allocations, correlations, grown_back, spearman
from purlkit.pruning.layers import prunable_layers
from tests.unit.networks import digits_net


def untrained() -> Unit:
    """Of a dense network that costs nothing."""
    unit = Unit("digits", 1, 100, width=2)
    vars(unit)["dense"] = digits_net(width=2)
    return unit


def test_equal_values_share_their_rank() -> None:
    assert spearman([1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 2.0, 3.0]) == pytest.approx(1.0)
    assert spearman([1.0, 2.0, 2.0, 3.0], [3.0, 2.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert spearman([1.0, 1.0, 2.0], [1.0, 2.0, 3.0]) == pytest.approx(0.866, abs=1e-3)


def test_a_correlation_is_told_once_every_allocation_has_both_seeds_of_the_reference(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "told.jsonl")
    place = ("digits", 1, 100, 0.98)
    for n in range(ALLOCATIONS):
        lines.once((*place, "reference", n, 0), lambda n=n: float(n))
        lines.once((*place, "dense 5", n), lambda n=n: {"loss": float(n), "accuracy": 0.5 + n / 100})

    assert list(correlations(lines)) == []
    for n in range(ALLOCATIONS):
        lines.once((*place, "reference", n, 1), lambda: 0.0)

    [(what, where, by_loss, by_accuracy)] = correlations(lines)
    assert (what, where, by_loss) == ("dense 5", place, pytest.approx(1.0))
    assert by_accuracy == pytest.approx(-1.0)  # here the more accurate is the worse one


def test_what_is_in_the_file_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "told.jsonl"
    Lines(path).once(("a", 1, 0.5), lambda: {"x": 1})

    again = Lines(path).once(("a", 1, 0.5), lambda: pytest.fail("it was done again"))

    assert again == {"x": 1}


def test_a_line_that_was_cut_off_is_done_again_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "told.jsonl"
    lines = Lines(path)
    lines.once(("a",), lambda: 1)
    lines.once(("b",), lambda: 2)
    path.write_text(path.read_text()[:-5])

    assert (Lines(path).once(("a",), lambda: 3), Lines(path).once(("b",), lambda: 4)) == (1, 4)
    assert Lines(path).rows == {("a",): 1, ("b",): 4}


def test_what_grows_back_has_its_dense_value_and_what_was_kept_its_tuned_one() -> None:
    dense, tuned = digits_net(width=2, seed=0), digits_net(width=2, seed=1)
    unit = untrained()
    kept = unit.mask_of(unit.naive(0.5)["uniform"])
    before = {layer.name: layer.weight.clone() for layer in prunable_layers(tuned)}

    merged = grown_back(dense, tuned, kept)

    for old, new in zip(prunable_layers(dense), prunable_layers(merged), strict=True):
        keep = kept.keep[new.name]
        assert torch.equal(new.weight[keep], before[new.name][keep])
        assert torch.equal(new.weight[~keep], old.weight[~keep])


def test_digits_are_cross_validated_and_the_splits_disjoint() -> None:
    tests = [Unit("digits", 1, number).splits for number in range(5)]

    assert [splits.sizes["test"] for splits in tests] == [360, 360, 359, 359, 359]
    assert {tuple(splits.sizes.values())[:2] for splits in tests} == {(938, 250)}
    assert sum(sum(splits.sizes.values()) for splits in tests) == 5 * 1797


def test_the_allocations_of_a_yardstick_have_one_total() -> None:
    unit = untrained()

    tried = allocations(unit, 0.8)

    assert len(set(tried)) == ALLOCATIONS
    assert len({sum(allocation) for allocation in tried}) == 1


def test_holm_s_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [0.03, 0.06, 0.06, 0.02]
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_the_bootstrap_resamples_units() -> None:
    low, high, p = bootstrap([0.01, 0.02, 0.03, 0.02, 0.015])
    assert 0.01 <= low < 0.019 < high <= 0.03
    assert p < 0.001

    low, high, p = bootstrap([0.02, -0.02, 0.01, -0.01, 0.0])
    assert low < 0 < high
    assert p > 0.5


def test_a_unit_counts_when_its_search_has_ended_and_development_units_are_no_part_of_the_table(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "told.jsonl")
    row = {"select": [0.5], "test": [0.5]}
    naive = {"uniform": 0.1, "erk": 0.2, "global": 0.3, "global-mt": 0.5, "lamp": 0.4}
    for unit in (0, 1, 100):
        for name, select in naive.items():
            lines.once(("digits", 1, 0.98, unit, name), lambda s=select: {"select": [s], "test": [1 - s]})
        if unit != 1:
            lines.once(("digits", 1, 0.98, unit, "purl-budget"), lambda: row)
    lines.once(("digits", 1, 0.98, 0, "random"), lambda: row)

    [(cell, units)] = table(lines, development=False).items()

    assert cell == ("digits", 1, 0.98)
    assert [(unit["naive"], unit["second naive"]) for unit in units] == [(0.5, 0.6)]  # by select, never by test
    assert "random" in units[0]
    assert "naive + budget" not in units[0]
    assert len(table(lines, development=True)[cell]) == 1
