"""The methods that look at the weights alone, each by numbers computed by hand."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from purlkit.baselines.global_magnitude import global_magnitude, global_with_minimum, minimum_weights
from purlkit.baselines.lamp import lamp, lamp_scores
from purlkit.baselines.layerwise import erk, uniform
from purlkit.errors import ThresholdTooHigh
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from tests.unit.networks import digits_net, distinct_networks, layers_of


def kept(mask: Mask) -> list[list[int]]:
    return [keep.flatten().int().tolist() for keep in mask.keep.values()]


def counts(mask: Mask) -> list[int]:
    return [kept for kept, _ in mask.per_layer.values()]


def test_uniform_takes_the_same_share_whatever_the_magnitudes() -> None:
    layers = layers_of([1.0, 2.0, 3.0, 4.0], [0.01, 0.04, 0.03, 0.02])

    assert kept(uniform(layers, 0.5)) == [[0, 0, 1, 1], [0, 1, 1, 0]]


def test_uniform_gives_what_is_left_over_to_the_largest_remainder() -> None:
    layers = layers_of(torch.ones(10), torch.ones(25), torch.ones(12))

    # 47 weights of which 14 stay: 2.98, 7.45 and 3.57 of them
    assert counts(uniform(layers, 0.7)) == [3, 7, 4]


def test_uniform_leaves_a_layer_of_many_zeros_as_it_is() -> None:
    layers = layers_of([0.0, 0.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0])

    assert counts(uniform(layers, 0.5)) == [1, 3]


def test_the_minimum_threshold_is_a_share_of_the_whole_network() -> None:
    layers = layers_of([0.3, 0.1, 0.2, 0.4], [5.0, 6.0, 7.0, 8.0, 9.0, 10.0], [0.9])

    # A fifth of 11 weights is 2: the first keeps its two largest, the last (smaller than that) all, the second pays.
    assert kept(global_with_minimum(layers, 6 / 11, minimum_threshold=0.2)) == [[1, 0, 0, 1], [0, 0, 0, 0, 1, 1], [1]]
    assert counts(global_magnitude(layers, 6 / 11)) == [1, 3, 1]


@pytest.mark.parametrize(("threshold", "weights"), [(0.2, 2), (0.1, 1), (1e-9, 1), (0.27, 3)])
def test_the_threshold_in_weights(threshold: float, weights: int) -> None:
    layers = layers_of([0.3, 0.1, 0.2, 0.4], [5.0, 6.0, 7.0, 8.0, 9.0, 10.0], [0.9])

    assert minimum_weights(layers, 3 / 11, threshold) == weights


def test_a_threshold_that_needs_all_that_is_kept_is_met_and_one_more_is_refused() -> None:
    layers = layers_of(torch.rand(50) + 1, torch.rand(48) + 9, [1.0, 1.0])

    assert counts(global_with_minimum(layers, 0.88, minimum_threshold=0.05)) == [5, 5, 2]  # 12 stay
    with pytest.raises(ThresholdTooHigh, match=r"at most 0\.05, or for a sparsity of at most 0\.86") as caught:
        global_with_minimum(layers, 0.88, minimum_threshold=0.06)
    assert caught.value.at == "/minimum_threshold"


@given(distinct_networks(), st.floats(0.05, 0.95), st.floats(0.01, 0.99))
def test_the_remedies_of_a_threshold_too_high_are_true(
    layers: list[PrunableLayer], share: float, threshold: float
) -> None:
    total = sum(layer.weight.numel() for layer in layers)
    share = min(share, (total - len(layers)) / total)
    try:
        mask = global_with_minimum(layers, share, minimum_threshold=threshold)
    except ThresholdTooHigh as error:
        threshold_that_fits, sparsity_that_fits = map(float, re.findall(r"at most ([\d.e-]*\d)", str(error)))
        assert global_with_minimum(layers, share, minimum_threshold=threshold_that_fits)
        assert global_with_minimum(layers, sparsity_that_fits, minimum_threshold=threshold)
        with pytest.raises(ThresholdTooHigh):
            global_with_minimum(layers, share, minimum_threshold=threshold_that_fits + 1 / total)
        return
    assert all(kept >= min(round(threshold * total), size) for kept, size in mask.per_layer.values())


def test_the_default_threshold_is_half_an_even_division_of_what_is_kept() -> None:
    layers = prunable_layers(digits_net())

    assert minimum_weights(layers, 0.95, None) == 3854 // 20
    assert counts(global_with_minimum(layers, 0.95))[0] == 144  # smaller than that: dense
    assert min(counts(global_with_minimum(layers, 0.95))[1:]) >= 192
    assert minimum_weights(layers, 0.9998, None) == 1  # 15 weights for 10 layers: always within reach


def test_lamp_scores_by_hand() -> None:
    weight = torch.tensor([[1.0, -2.0], [3.0, 0.0]])

    # squares 1, 4, 9: over 1 + 4 + 9, over 4 + 9, over 9
    assert lamp_scores(weight).flatten().tolist() == pytest.approx([1 / 14, 4 / 13, 1.0, 0.0])


def test_lamp_counts_equal_weights_for_one_another() -> None:
    assert lamp_scores(torch.tensor([2.0, 1.0, -2.0, 1.0])).tolist() == pytest.approx([0.5, 0.1, 0.5, 0.1])


def test_lamp_compares_layers_by_score_and_not_by_size() -> None:
    layers = layers_of([1.0, -2.0, 3.0], [100.0, 200.0, 200.0])

    # scores 0.071, 0.308, 1 and 0.111, 0.5, 0.5
    assert kept(lamp(layers, 2 / 6)) == [[0, 1, 1], [0, 1, 1]]
    assert kept(lamp(layers, 3 / 6)) == [[0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("scale", [2.0**10, 2.0**-80])  # the squares of the second are no float32 any more
def test_lamp_does_not_see_the_scale_of_a_layer(scale: float) -> None:
    layers = prunable_layers(digits_net(width=4))
    before = lamp(layers, 0.9)
    with torch.no_grad():
        layers[2].weight.mul_(scale)

    assert lamp(layers, 0.9) == before
    assert global_magnitude(layers, 0.9) != before


def test_erk_densities_by_hand() -> None:
    layers = layers_of(torch.rand(8, 4, 3, 3) + 1, torch.rand(16, 8, 1, 1) + 1, torch.rand(10, 16) + 1)

    # 288, 128 and 160 weights; in + out + sides: 18, 26 and 26, together 70. Of 576 weights 140 stay: twice that.
    assert counts(erk(layers, 436 / 576)) == [36, 52, 52]


def test_erk_leaves_a_layer_dense_that_would_need_more_than_it_has() -> None:
    layers = layers_of(torch.rand(2, 3) + 1, torch.rand(20, 20) + 1, torch.rand(40, 10) + 1)

    # Proportions 5, 40, 50. Of 192 kept weights the first would get 10 of its 6: the rest is 186 in 40 : 50.
    assert counts(erk(layers, 614 / 806)) == [6, 83, 103]


def test_erk_caps_again_when_the_rise_passes_another_cap() -> None:
    layers = layers_of(torch.rand(1, 1) + 1, torch.rand(2, 2) + 1, torch.rand(30, 30) + 1)

    # Proportions 2, 4, 60 of 66: at 100 kept 3, 6 and 91, so the first two stay dense (1 and 4).
    assert counts(erk(layers, 805 / 905)) == [1, 4, 95]
