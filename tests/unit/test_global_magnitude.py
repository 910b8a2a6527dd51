"""Global magnitude pruning and the exact ranking under it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from purlkit.baselines.global_magnitude import global_magnitude
from purlkit.errors import InvalidSpec, UnreachableSparsity
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import floors, keep_highest, sparsity_range
from tests.unit.networks import digits_net, distinct_networks, layers_of, networks


def kept(mask: Mask) -> list[list[int]]:
    return [keep.int().tolist() for keep in mask.keep.values()]


def test_the_smallest_of_the_whole_network_go() -> None:
    layers = layers_of([1.0, -8.0, 3.0], [-2.0, 7.0, 0.5])

    assert kept(global_magnitude(layers, 0.5)) == [[0, 1, 1], [0, 1, 0]]


def test_of_equals_the_earlier_layer_and_index_stays() -> None:
    layers = layers_of([9.0, 1.0, -1.0], [9.0, 1.0, 1.0])

    assert kept(global_magnitude(layers, 0.5)) == [[1, 1, 0], [1, 0, 0]]


def test_a_layer_keeps_its_largest_weight_and_the_others_pay() -> None:
    layers = layers_of([0.1, -0.3, 0.2], [5.0, 6.0, 7.0])

    assert kept(global_magnitude(layers, 0.5)) == [[0, 1, 0], [0, 1, 1]]


def test_zeros_go_first_and_a_layer_of_zeros_has_no_floor() -> None:
    layers = layers_of([0.0, 0.0], [0.0, 1.0, 2.0, 3.0])

    assert kept(global_magnitude(layers, 0.5)) == [[0, 0], [0, 1, 1, 1]]
    assert sparsity_range(layers) == (0.5, 5 / 6)


@pytest.mark.parametrize("sparsity", [0.1, 0.9999])
def test_out_of_range_is_refused_with_the_range(sparsity: float) -> None:
    layers = layers_of([0.0, 0.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0])

    with pytest.raises(UnreachableSparsity, match=r"from 0\.25 to 0\.75") as caught:
        global_magnitude(layers, sparsity)

    assert caught.value.at == "/targets/sparsity"


@pytest.mark.parametrize(("sparsity", "removed"), [(0.9, 69365), (0.95, 73218), (0.98, 75531)])
def test_digits_resnet_to_the_weight(sparsity: float, removed: int) -> None:
    layers = prunable_layers(digits_net())

    mask = global_magnitude(layers, sparsity)

    assert mask.total - mask.kept == removed  # of 77072
    sizes = {layer.name: layer.weight.detach().abs() for layer in layers}
    ranked = {name: keep & ~floors(layers).keep[name] for name, keep in mask.keep.items()}
    smallest_kept = torch.cat([size[ranked[name]] for name, size in sizes.items()]).min()
    largest_removed = torch.cat([size[~mask.keep[name]] for name, size in sizes.items()]).max()
    assert largest_removed <= smallest_kept


@given(networks(), st.floats(0, 1))
def test_the_count_is_exact_within_the_range_and_refused_outside(layers: list[PrunableLayer], share: float) -> None:
    total = sum(layer.weight.numel() for layer in layers)
    low, high = sparsity_range(layers)
    removed = round(share * total)

    if not round(low * total) <= removed <= round(high * total):
        with pytest.raises(UnreachableSparsity):
            global_magnitude(layers, share)
        return
    mask = global_magnitude(layers, share)

    assert mask.total - mask.kept == removed
    assert mask & Mask.from_weights(layers) == mask
    assert all(mask.keep[layer.name].any() for layer in layers if layer.weight.any())
    assert global_magnitude(layers, share) == mask


@given(distinct_networks(), st.floats(0.05, 0.95))
def test_agrees_with_torch_where_torch_empties_no_layer(layers: list[PrunableLayer], share: float) -> None:
    removed = round(share * sum(layer.weight.numel() for layer in layers))
    modules = []
    for layer in layers:
        module = nn.Linear(layer.weight.numel(), 1, bias=False)
        module.weight = nn.Parameter(layer.weight.detach().clone().view(1, -1))
        modules.append(module)
    prune.global_unstructured(
        [(module, "weight") for module in modules], pruning_method=prune.L1Unstructured, amount=removed
    )
    theirs = [module.weight_mask.flatten().bool().tolist() for module in modules]
    assume(all(any(keep) for keep in theirs))

    ours = global_magnitude(layers, share)

    assert [keep.tolist() for keep in ours.keep.values()] == theirs


def test_the_model_is_not_touched() -> None:
    model = digits_net(width=4)
    before = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])

    global_magnitude(prunable_layers(model), 0.9)

    assert torch.equal(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), before)


def test_scores_in_double_precision_are_ranked_in_it() -> None:
    scores = [torch.tensor([1.0, 1 + 1e-12, 1.0], dtype=torch.float64)]

    mask = keep_highest(layers_of([1.0, 1.0, 1.0]), scores, 1, floor=0)

    assert mask.keep["a"].tolist() == [False, True, False]


def test_a_floor_below_nothing_is_refused() -> None:
    assert floors(layers_of([1.0, 2.0]), 0).kept == 0
    with pytest.raises(InvalidSpec, match="fewer than no weights"):
        floors(layers_of([1.0, 2.0]), -1)


@pytest.mark.parametrize("sparsity", [float("nan"), float("inf"), -0.1])
def test_what_is_no_share_is_refused_even_where_one_weight_is_enough(sparsity: float) -> None:
    with pytest.raises(UnreachableSparsity):
        global_magnitude(layers_of([1.0, 2.0]), sparsity)
