"""Which layers are prunable, and that no weight is counted twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import prune

from purlkit.env import PruningEnv
from purlkit.errors import InvalidSpec
from purlkit.pruning.layers import describe, prunable_layers
from purlkit.spec import Search
from tests.unit.networks import digits_net, some_images


def test_convolutions_and_linear_layers_in_module_order() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))

    layers = prunable_layers(model)

    assert [(layer.name, layer.kind) for layer in layers] == [("0", "conv"), ("4", "linear")]
    assert layers[0].weight is model[0].weight  # the parameter itself: cutting it cuts the model


def test_depthwise_and_grouped_convolutions_count() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 3, groups=2), nn.Conv1d(8, 2, 1), nn.Conv3d(2, 2, 1)
    )

    assert [layer.kind for layer in prunable_layers(model)] == ["grouped-conv", "grouped-conv", "conv", "conv"]


def test_embeddings_and_norms_do_not_count() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.Linear(4, 3))

    assert [layer.name for layer in prunable_layers(model)] == ["3"]


def test_tied_weights_are_one_layer_under_the_first_name() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight

    assert [layer.name for layer in prunable_layers(model)] == ["0"]


def test_a_module_used_twice_is_one_layer() -> None:
    shared = nn.Linear(4, 4)

    assert len(prunable_layers(nn.Sequential(shared, nn.ReLU(), shared))) == 1


def test_a_weight_shared_with_an_embedding_is_not_prunable() -> None:
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Embedding(5, 4))
    model[0].weight = model[1].weight

    assert prunable_layers(model) == []


def old_weight_norm(layer: nn.Linear) -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(layer)


@pytest.mark.parametrize(
    "compute",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        old_weight_norm,
        lambda layer: prune.random_unstructured(layer, "weight", 0.5),  # torch's own pruning
    ],
)
def test_a_weight_that_is_computed_anew_is_refused_for_zeros_would_not_stay(
    compute: Callable[[nn.Linear], nn.Module],
) -> None:
    model = nn.Sequential(nn.Linear(4, 4), compute(nn.Linear(4, 4)))

    with pytest.raises(InvalidSpec, match="the weight of 1 is computed anew"):
        prunable_layers(model)


def test_a_lazy_layer_is_refused_until_it_has_seen_an_image() -> None:
    model = nn.Sequential(nn.LazyLinear(3))

    with pytest.raises(InvalidSpec, match="run the model on an image"):
        prunable_layers(model)
    model(torch.zeros(1, 5))

    assert prunable_layers(model)[0].weight.shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "layers", "depthwise"),
    [("resnet50", 54, 0), ("efficientnet_b2", 116, 23), ("mobilenet_v2", 53, 17)],
)
def test_layers_of_the_networks_in_the_paper(name: str, layers: int, depthwise: int) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)

    kinds = [layer.kind for layer in prunable_layers(model)]

    assert len(kinds) == layers  # so the 2n state of ResNet-50 has the paper's 108 numbers
    assert kinds.count("grouped-conv") == depthwise


def test_the_state_of_a_resnet_50_has_108_numbers() -> None:
    env = PruningEnv(
        torchvision.models.resnet50(width_per_group=4),  # as many layers, far fewer weights
        some_images(2, (3, 32, 32)),
        some_images(2, (3, 32, 32)),
        search=Search(),
        target_accuracy=0.5,
        target_sparsity=0.5,
        retrain_seed=0,
    )

    assert env.observation_space.shape == (108,)


def test_digits_resnet_has_ten_layers_and_about_77_thousand_weights() -> None:
    layers = describe(prunable_layers(digits_net()))

    assert len(layers) == 10
    # 144 + 2·2304 + (4608 + 9216 + 512) + (18432 + 36864 + 2048) + 640
    assert sum(layer.weights for layer in layers) == 77072
    assert layers[0].model_dump() == {"name": "conv", "kind": "conv", "shape": (16, 1, 3, 3), "weights": 144}
    assert layers[-1].name == "classifier"
