"""A policy of alphas becomes a mask at exactly the target, by one change common to all layers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from purlkit.errors import UnreachableSparsity
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.policy import mask_for_alphas, sparsity_range
from purlkit.pruning.thresholds import keep_above
from tests.unit.networks import digits_net, distinct_networks, layers_of, networks

# Each pair has mean 0, so sigma is the root of the mean square: 5 for ±1, ±7 and 50 for ±10, ±70.
SMALL, LARGE = [1.0, -1.0, 7.0, -7.0], [10.0, -10.0, 70.0, -70.0]
GRID = st.sampled_from([round(0.2 * step, 1) for step in range(12)])


def kept(mask: Mask) -> list[list[int]]:
    return [keep.int().tolist() for keep in mask.keep.values()]


def test_without_a_target_each_layer_is_cut_at_its_alpha() -> None:
    policy = mask_for_alphas(layers_of(SMALL, LARGE), (0.3, 0.0), target=None)

    assert kept(policy.mask) == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert (policy.alphas, policy.note) == ((0.3, 0.0), None)


def test_without_a_target_a_layer_still_keeps_its_largest_weight_and_the_note_says_so() -> None:
    policy = mask_for_alphas(layers_of([1.0, -1.0], LARGE), (2.0, 0.0), target=None)

    assert kept(policy.mask) == [[1, 0], [1, 1, 1, 1]]
    assert policy.note == "1 of the layers would be empty and keep their largest weight"


def test_one_common_factor_meets_the_target() -> None:
    # Scores abs(w) / (alpha * sigma): a 0.2, 1.4 over alpha 1; b the same over alpha 2, so b is cut twice as deep.
    policy = mask_for_alphas(layers_of(SMALL, LARGE), (1.0, 2.0), target=0.25)

    assert kept(policy.mask) == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert policy.alphas == pytest.approx((0.15, 0.3))  # between the scores 0.1, which went, and 0.2, which stayed
    assert policy.note == "alphas scaled by 0.15 to meet the target exactly"


def test_an_alpha_of_zero_stays_dense_as_long_as_a_factor_reaches_the_target() -> None:
    policy = mask_for_alphas(layers_of(SMALL, LARGE), (0.0, 0.1), target=0.375)

    assert kept(policy.mask) == [[1, 1, 1, 1], [0, 0, 1, 0]]
    assert policy.alphas[0] == 0.0


def test_where_no_factor_reaches_the_target_a_common_shift_does_and_the_note_says_so() -> None:
    # Layer a alone holds half of the weights, and 5 of 8 have to go. Scores abs(w) / sigma - alpha:
    # a 0.2, 0.2, 1.4, 1.4; b 0, 0, 1.2, 1.2. The largest weight of each layer stays.
    policy = mask_for_alphas(layers_of(SMALL, LARGE), (0.0, 0.2), target=0.625)

    assert kept(policy.mask) == [[0, 0, 1, 1], [0, 0, 1, 0]]
    assert policy.alphas == pytest.approx((1.3, 1.5))
    assert policy.note is not None
    assert "1.3 was added to each" in policy.note


def test_an_all_zero_policy_reaches_any_target_by_the_shift() -> None:
    layers = prunable_layers(digits_net(width=4))

    policy = mask_for_alphas(layers, (0.0,) * len(layers), target=0.9)

    assert policy.mask.kept == policy.mask.total - round(0.9 * policy.mask.total)
    assert len(set(policy.alphas)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_90_percent_asked_of_digits_resnet_is_90_percent_got(seed: int) -> None:
    layers = prunable_layers(digits_net(seed=seed))
    grid = torch.arange(12) * 0.2
    alphas = grid[torch.randint(12, (10,), generator=torch.Generator().manual_seed(seed))].tolist()

    mask = mask_for_alphas(layers, alphas, target=0.9).mask

    assert mask.total - mask.kept == 69365  # 0.9 of 77072, to the nearest weight
    assert round(mask.sparsity, 4) == 0.9


def test_shares_without_a_target_are_cut_as_they_are() -> None:
    layers = layers_of([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])

    policy = mask_for_alphas(layers, (0.5, 0.25), target=None, criterion="magnitude_target")

    assert kept(policy.mask) == [[0, 0, 1, 1], [0, 1, 1, 1]]


def test_one_common_factor_on_shares_meets_the_target() -> None:
    # Places 1/8, 3/8, 5/8, 1 over the shares 0.2 and 0.4: a goes at 0.625, 1.875, … and b at 0.3125, 0.9375, 1.5625.
    layers = layers_of([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])

    policy = mask_for_alphas(layers, (0.2, 0.4), target=0.375, criterion="magnitude_target")

    assert kept(policy.mask) == [[0, 1, 1, 1], [0, 0, 1, 1]]
    assert policy.alphas == pytest.approx((0.25, 0.5))  # the factor 1.25 lies between 0.9375 and 1.5625


def test_a_common_shift_on_shares_where_no_factor_reaches() -> None:
    layers = layers_of([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])

    policy = mask_for_alphas(layers, (0.0, 0.5), target=0.625, criterion="magnitude_target")

    assert kept(policy.mask) == [[0, 0, 1, 1], [0, 0, 0, 1]]
    assert policy.alphas == pytest.approx((0.5, 1.0))  # the shift 0.5 lies between 0.375 and 0.625
    assert "added to each" in (policy.note or "")


def test_a_target_below_the_zeros_there_are_is_refused() -> None:
    layers = layers_of([0.0, 0.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0])

    with pytest.raises(UnreachableSparsity, match=r"from 0\.375 to 0\.75"):
        mask_for_alphas(layers, (1.0, 1.0), target=0.3)


def test_nothing_to_remove_needs_no_cut() -> None:
    layers = layers_of([0.0, 1.0, -3.0, 2.0])

    assert kept(mask_for_alphas(layers, (1.0,), target=0.25).mask) == [[0, 1, 1, 1]]


@given(networks(), st.data())
def test_any_reachable_target_is_met_exactly(layers: list[PrunableLayer], data: st.DataObject) -> None:
    alphas = data.draw(st.lists(GRID, min_size=len(layers), max_size=len(layers)))
    low, high = sparsity_range(layers)
    total = sum(layer.weight.numel() for layer in layers)
    removed = data.draw(st.integers(round(low * total), round(high * total)))

    policy = mask_for_alphas(layers, alphas, target=removed / total)

    assert policy.mask.total - policy.mask.kept == removed
    assert policy.mask & Mask.from_weights(layers) == policy.mask
    assert all(policy.mask.keep[layer.name].any() for layer in layers if layer.weight.any())
    assert all(0 <= alpha < float("inf") for alpha in policy.alphas)
    assert mask_for_alphas(layers, alphas, target=removed / total) == policy


@given(distinct_networks(), st.data())
def test_the_alphas_told_are_the_alphas_cut_at(layers: list[PrunableLayer], data: st.DataObject) -> None:
    alphas = data.draw(st.lists(GRID, min_size=len(layers), max_size=len(layers)))
    low, high = sparsity_range(layers)

    policy = mask_for_alphas(layers, alphas, target=data.draw(st.floats(low, high)))

    assume("empty" not in (policy.note or ""))  # a floor is where the mask departs from the alphas
    for layer, alpha in zip(layers, policy.alphas, strict=True):
        assert torch.equal(keep_above(layer.weight, alpha), policy.mask.keep[layer.name])


def test_no_alpha_describes_a_cut_through_equal_weights() -> None:
    layers = layers_of([2.0, 2.0, 2.0, 2.0], [1.0, -3.0])  # the first has no deviation

    policy = mask_for_alphas(layers, [0.4, 0.4], target=4 / 6)

    assert policy.mask == Mask({"a": torch.tensor([1, 0, 0, 0]).bool(), "b": torch.tensor([0, 1]).bool()})
    assert all(math.isfinite(alpha) for alpha in policy.alphas)


def test_where_only_floors_stay_the_alphas_remove_all_else() -> None:
    layers = layers_of([1.0, 2.0, 4.0], [1.0, 3.0, 5.0])

    policy = mask_for_alphas(layers, [0.4, 0.8], target=4 / 6)

    for layer, alpha in zip(layers, policy.alphas, strict=True):
        assert not bool((keep_above(layer.weight, alpha) & ~policy.mask.keep[layer.name]).any())
