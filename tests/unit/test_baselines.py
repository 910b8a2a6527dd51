"""What every method of comparison owes: the exact count, zeros that stay zeros, ties, floors and refusals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from purlkit import baselines, sentence
from purlkit.baselines.columns import prune_columns
from purlkit.errors import CollapsedLayer, UnreachableSparsity, WeightsDontFit
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import sparsity_range
from purlkit.spec import Baseline, JobSpec
from purlkit.zoo import catalog
from tests.unit.networks import digits_net, layers_of, networks

Method = Callable[..., Mask]
METHODS: dict[str, Method] = {
    **{name: baselines.method(name) for name in baselines.FROM_WEIGHTS},
    **{
        name: partial(baselines.method(name), score=lambda mask: float(mask.kept % 7), episodes=3)
        for name in baselines.FROM_SCORES
    },
}

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def kept(mask: Mask) -> list[list[int]]:
    return [keep.int().tolist() for keep in mask.keep.values()]


def counts(mask: Mask) -> list[int]:
    return [kept for kept, _ in mask.per_layer.values()]


def test_a_spec_the_catalog_and_the_verdict_know_the_same_names() -> None:
    assert set(get_args(Baseline)) == set(catalog.BASELINES) == {*baselines.FROM_WEIGHTS, "random"}
    assert set(sentence.NAMES) == set(catalog.BASELINES) | set(catalog.SEARCHES)


def test_a_threshold_belongs_to_its_method() -> None:
    least = {"model": {"name": "mlp"}, "targets": {"sparsity": 0.9}}

    assert JobSpec.model_validate({**least, "baselines": ["global-mt"], "minimum_threshold": 0.01})
    with pytest.raises(ValidationError, match="name that in baselines"):
        JobSpec.model_validate({**least, "baselines": ["lamp"], "minimum_threshold": 0.01})
    assert (
        JobSpec.model_validate({**least, "minimum_threshold": None}).fingerprint
        == JobSpec.model_validate(least).fingerprint
    )


@every_method
@settings(max_examples=50)
@given(layers=networks(), share=st.floats(0, 1), floor=st.integers(1, 3))
def test_the_count_is_exact_within_the_range_and_refused_outside(
    method: Method, layers: list[PrunableLayer], share: float, floor: int
) -> None:
    total = sum(layer.weight.numel() for layer in layers)
    low, high = sparsity_range(layers, floor)
    before = [layer.weight.detach().clone() for layer in layers]
    removed = round(share * total)

    if not round(low * total) <= removed <= round(high * total):
        with pytest.raises(UnreachableSparsity):
            method(layers, share, floor=floor)
        return
    mask = method(layers, share, floor=floor)

    assert mask.total - mask.kept == removed
    assert mask & Mask.from_weights(layers) == mask  # no zero counts as kept
    for layer, was in zip(layers, before, strict=True):
        alive = int(was.count_nonzero())
        assert mask.per_layer[layer.name][0] >= min(floor, alive)
        if bool(mask.keep[layer.name].any()) and bool((~mask.keep[layer.name]).any()):
            # Within a layer the smallest go, whatever divides the weights among the layers.
            smallest_kept = was[mask.keep[layer.name]].abs().min()
            assert was[~mask.keep[layer.name]].abs().max() <= smallest_kept
        assert torch.equal(layer.weight, was)
    assert method(layers, share, floor=floor) == mask


@every_method
def test_on_a_real_network_to_the_weight(method: Method) -> None:
    layers = prunable_layers(digits_net())

    assert [77072 - method(layers, sparsity).kept for sparsity in (0.9, 0.95, 0.98)] == [69365, 73218, 75531]


@every_method
def test_of_equals_the_first_stays(method: Method) -> None:
    layers = layers_of([1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, 1.0, -1.0])

    assert kept(method(layers, 0.25))[0] in ([1, 1, 1, 0], [1, 1, 1, 1])
    assert all(row == sorted(row, reverse=True) for row in kept(method(layers, 0.625)))
    assert sum(counts(method(layers, 0.625))) == 3


@every_method
@pytest.mark.parametrize("sparsity", [0.1, 0.9999, -0.5, 1.5, float("nan")])
def test_out_of_reach_is_refused_with_the_range(method: Method, sparsity: float) -> None:
    layers = layers_of([0.0, 0.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0])

    with pytest.raises(UnreachableSparsity, match=r"from 0\.25 to 0\.75"):
        method(layers, sparsity)


@every_method
def test_zeros_are_removed_already(method: Method) -> None:
    layers = layers_of([0.0, 0.0, 0.0, 5.0], [0.0, 2.0, 3.0, 4.0])

    assert kept(method(layers, 0.5)) == [[0, 0, 0, 1], [0, 1, 1, 1]]


@every_method
def test_a_layer_of_zeros_is_no_collapse(method: Method) -> None:
    layers = layers_of([0.0, 0.0], [0.0, 1.0, 2.0, 3.0])

    assert kept(method(layers, 0.5, floor=0)) == [[0, 0], [0, 1, 1, 1]]


# Of 100 weights: two, in a layer that every method thinks little of.
def lopsided() -> list[PrunableLayer]:
    return layers_of([0.1, 0.1], torch.linspace(5, 6, 98))


@every_method
def test_a_layer_that_would_be_empty_keeps_its_largest(method: Method) -> None:
    assert counts(method(lopsided(), 0.98)) == [1, 1]


@pytest.mark.parametrize("name", ["uniform", "global", "erk"])
def test_a_layer_that_would_be_empty_is_named_where_no_floor_is_wanted(name: str) -> None:
    with pytest.raises(CollapsedLayer, match=r"left of a: .*lower sparsity.*floor=1"):
        METHODS[name](lopsided(), 0.97, floor=0)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "amc"])  # its own walks do empty layers
def test_a_floor_of_none_changes_nothing_where_no_layer_is_empty(name: str) -> None:
    layers, method = prunable_layers(digits_net(width=4)), METHODS[name]

    assert method(layers, 0.5, floor=0) == method(layers, 0.5)


@every_method
def test_a_higher_floor_is_kept_everywhere(method: Method) -> None:
    mask = method(layers_of([0.1, 0.3, 0.2], torch.linspace(5, 6, 97)), 0.95, floor=2)

    assert kept(mask)[0] == [0, 1, 1]
    assert mask.kept == 5


@every_method
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(method: Method, bad: float) -> None:
    with pytest.raises(WeightsDontFit, match="of b are not finite"):
        method(layers_of([1.0, 2.0], [3.0, bad]), 0.5)


@every_method
def test_everything_and_nothing(method: Method) -> None:
    layers = layers_of([1.0, 2.0], [3.0])

    assert method(layers, 0.0) == Mask.dense(layers)
    with pytest.raises(CollapsedLayer, match="a, b"):
        method(layers, 1.0, floor=0)


def test_columns_are_ranked_over_all_matrices_by_their_sum_of_magnitudes() -> None:
    w = torch.tensor([[1.0, -3.0, 0.0], [-1.0, 0.0, 5.0]])  # sums 2, 3, 5
    u = torch.tensor([[4.0, 1.0], [0.0, 1.0], [0.0, -1.5]])  # sums 4, 3.5

    mask = prune_columns(layers_of(w, u), 0.4)  # two of the five columns go

    assert kept(mask) == [[[0, 0, 0], [0, 0, 1]], [[1, 1], [0, 1], [0, 1]]]


def test_each_matrix_keeps_its_highest_column_and_equals_stay_in_order() -> None:
    low, high = torch.full((2, 3), 0.1), torch.ones(4, 2)

    assert kept(prune_columns(layers_of(low, high), 0.6)) == [[[1, 0, 0]] * 2, [[1, 0]] * 4]
    with pytest.raises(CollapsedLayer, match="left of a"):
        prune_columns(layers_of(low, high), 0.6, floor=0)


def test_a_column_of_zeros_is_removed_already() -> None:
    matrices = layers_of(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[2.0, 2.0]]))

    assert kept(prune_columns(matrices, 0.25)) == [[[0, 1], [0, 1]], [[1, 1]]]
    with pytest.raises(UnreachableSparsity, match=r"from 0\.25 to 0\.5"):
        prune_columns(matrices, 0.0)
