"""The weight analysis: moments by hand, and histograms that lie on one set of bins."""

from __future__ import annotations

import pytest
import torch

from purlkit.pruning.analysis import bimodality, weights_report
from purlkit.pruning.masks import Mask
from purlkit.results.weights import BINS, WeightsReport


@pytest.mark.parametrize(
    ("values", "coefficient"),
    [
        # No skew; m2 = 2, m4 = 6.8, so the corrected excess kurtosis is 4/6 (6 (6.8/4 - 3) + 6) = -1.2.
        ([0.0, 1.0, 2.0, 3.0, 4.0], 1 / (-1.2 + 3 * 16 / 6)),
        # m2 = 3.5, m3 = 4.5, m4 = 24.5: skewness 4.5 / 3.5^1.5 * sqrt(12) / 2, excess kurtosis 3/2 (5 (2 - 3) + 6).
        ([1.0, 2.0, 3.0, 6.0], (4.5**2 / 3.5**3 * 3 + 1) / (1.5 + 13.5)),
    ],
)
def test_bimodality_by_hand(values: list[float], coefficient: float) -> None:
    assert bimodality(torch.tensor(values)) == pytest.approx(coefficient)


def test_bimodality_of_known_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    normal, even = torch.randn(100_000, generator=generator), torch.rand(100_000, generator=generator)

    assert bimodality(normal) == pytest.approx(1 / 3, abs=0.01)
    assert bimodality(even) == pytest.approx(5 / 9, abs=0.01)
    assert (bimodality(normal[normal.abs() > 1]) or 0) > 5 / 9  # what pruning by magnitude leaves has two modes


@pytest.mark.parametrize("values", [[], [1.0, 2.0, 3.0], [0.1] * 10])
def test_too_few_or_equal_values_have_none(values: list[float]) -> None:
    assert bimodality(torch.tensor(values)) is None


def a_report() -> WeightsReport:
    dense = {"fc.weight": torch.tensor([[-4.0, -1.0, 0.0], [1.0, 3.0, 4.0]])}
    mask = Mask({"fc": torch.tensor([[True, False, False], [False, True, True]])})
    after = {"fc.weight": torch.tensor([[-5.0, 0.0, 0.0], [0.0, 0.5, 8.0]])}
    return weights_report("lamp", mask, dense=dense, before=dense, after=after)


def test_three_histograms_on_the_bins_of_the_widest() -> None:
    [layer] = a_report().layers

    assert (layer.low, layer.high) == (-8, 8)  # 64 bins of a quarter
    occupied = [
        {index: count for index, count in enumerate(spread.counts) if count}
        for spread in (layer.dense, layer.pruned, layer.fine_tuned)
    ]
    assert occupied == [
        {16: 1, 28: 1, 32: 1, 36: 1, 44: 1, 48: 1},
        {16: 1, 44: 1, 48: 1},  # the removed ones are not counted as zeros
        {12: 1, 34: 1, 63: 1},  # the last bin is closed
    ]


def test_counts_and_means() -> None:
    [layer] = a_report().layers

    assert [spread.weights for spread in (layer.dense, layer.pruned, layer.fine_tuned)] == [6, 3, 3]
    assert [spread.mean for spread in (layer.dense, layer.pruned, layer.fine_tuned)] == [0.5, 1.0, 3.5 / 3]
    assert layer.pruned.bimodality is None


def test_a_layer_of_which_nothing_is_left() -> None:
    empty = Mask({"fc": torch.zeros(2, 2, dtype=torch.bool)})
    zeros = {"fc.weight": torch.zeros(2, 2)}

    [layer] = weights_report("lamp", empty, dense=zeros, before=zeros, after=zeros).layers

    assert (layer.low, layer.high, layer.pruned.weights, layer.pruned.mean) == (-1, 1, 0, None)


def test_the_record_is_bounded_and_survives_json() -> None:
    report = a_report()

    assert all(len(layer.dense.counts) == BINS for layer in report.layers)
    assert WeightsReport.model_validate_json(report.model_dump_json()) == report
