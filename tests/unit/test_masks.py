"""Masks count exactly, only ever shrink, and leave clean zeros."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from tests.unit.networks import layers_of, networks


def mask_of(*keep: list[int]) -> Mask:
    return Mask({name: torch.tensor(bits, dtype=torch.bool) for name, bits in zip("abc", keep, strict=False)})


def test_counts() -> None:
    mask = mask_of([1, 0, 0, 1], [0, 1])

    assert (mask.kept, mask.total, mask.sparsity) == (3, 6, 0.5)
    assert mask.per_layer == {"a": (2, 4), "b": (1, 2)}


def test_in_a_notebook_it_says_what_it_keeps_and_not_every_bit() -> None:
    assert repr(mask_of([1, 0, 0, 1], [0, 1])) == "Mask(keeps 3 of 6 weights in 2 layers, 50.00% sparse)"


def test_dense_keeps_zeros_and_from_weights_does_not() -> None:
    layers = layers_of([0.0, 1.0, -0.0], [2.0])

    assert Mask.dense(layers) == mask_of([1, 1, 1], [1])
    assert Mask.from_weights(layers) == mask_of([0, 1, 0], [1])


def test_narrowing_never_revives() -> None:
    mask = mask_of([1, 0, 1], [1, 1]).narrow("a", torch.tensor([True, True, False]))

    assert mask == mask_of([1, 0, 0], [1, 1])
    assert mask & mask_of([1, 1, 1], [0, 1]) == mask_of([1, 0, 0], [0, 1])


def test_masks_of_different_networks_do_not_mix() -> None:
    with pytest.raises(ValueError, match="different networks"):
        mask_of([1]) & mask_of([1], [1])


def test_equality_and_digest_see_every_bit() -> None:
    mask = mask_of([1, 0], [1, 1])

    assert mask == mask_of([1, 0], [1, 1])
    assert mask != mask_of([1, 1], [1, 1])
    assert mask != mask_of([1, 0])
    assert mask.sha256 == mask_of([1, 0], [1, 1]).sha256
    assert len({mask.sha256, mask_of([1, 1], [1, 0]).sha256, mask_of([0, 1], [1, 1]).sha256}) == 3
    assert mask_of([1, 0, 1, 1]).sha256 != mask_of([[1, 0], [1, 1]]).sha256
    assert mask_of([1, 0], [1, 1]).sha256 != mask_of([1], [0, 1, 1]).sha256


def test_only_booleans_make_a_mask() -> None:
    with pytest.raises(TypeError, match="boolean"):
        Mask({"a": torch.ones(2)})


def test_apply_leaves_positive_zeros_even_where_a_weight_is_not_a_number() -> None:
    layers = layers_of([-3.0, float("nan"), 5.0, -7.0])

    mask_of([0, 0, 1, 1]).apply(layers)

    assert layers[0].weight.tolist() == [0.0, 0.0, 5.0, -7.0]
    assert not torch.signbit(layers[0].weight[:2]).any()  # -0.0 would cost the compressed file its long runs


def test_report_lists_each_layer_with_its_cut() -> None:
    layers = layers_of([1.0, 2.0, 3.0, 4.0], [5.0])

    rows = mask_of([1, 0, 0, 0], [1]).report(layers, alphas=(1.5, 0.0))

    assert [(row.name, row.weights, row.kept, row.sparsity, row.alpha) for row in rows] == [
        ("a", 4, 1, 0.75, 1.5),
        ("b", 1, 1, 0.0, 0.0),
    ]


@given(networks(), st.data())
def test_a_mask_only_ever_shrinks(layers: list[PrunableLayer], data: st.DataObject) -> None:
    mask = Mask.from_weights(layers)
    for layer in layers * 2:
        bits = data.draw(st.lists(st.booleans(), min_size=layer.weight.numel(), max_size=layer.weight.numel()))
        narrower = mask.narrow(layer.name, torch.tensor(bits))
        assert all(not (narrower.keep[name] & ~keep).any() for name, keep in mask.keep.items())
        assert narrower.kept <= mask.kept
        mask = narrower
