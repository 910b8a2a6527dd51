"""purlkit.prune: any method by its name, on any model, in one call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import purlkit
from purlkit import baselines
from purlkit.errors import InvalidSpec, MissingData, UnknownName, UnreachableSparsity
from purlkit.pruning.masks import Mask
from purlkit.spec import Retrain, Training
from tests.unit.networks import some_images

QUICK: dict[str, dict[str, Any]] = {
    **{name: {"training": Training(epochs=3, batch_size=20)} for name in baselines.FROM_TRAINING},
    **{name: {"episodes": 3, "retrain": Retrain(images=20, batch_size=20)} for name in baselines.FROM_SCORES},
}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))


def pair() -> tuple[Tensor, Tensor]:
    images = some_images(60)
    return images.x, images.y


@pytest.mark.parametrize("method", baselines.METHODS)
def test_the_model_is_pruned_in_place_to_the_weight(method: str) -> None:
    model = net()

    mask = purlkit.prune(model, pair(), sparsity=0.8, method=method, **QUICK.get(method, {}))

    assert mask == Mask.from_weights(purlkit.prunable_layers(model))
    assert mask.total - mask.kept == 1184  # of 1480


@pytest.mark.parametrize("method", baselines.METHODS)
def test_what_is_zero_stays_zero_and_counts(method: str) -> None:
    model, options = net(), QUICK.get(method, {})
    with torch.no_grad():
        model[1].weight[:12] = 0  # 768 of 1480

    with pytest.raises(UnreachableSparsity, match=r"from 0\.518919 to 0\.998648"):
        purlkit.prune(model, pair(), sparsity=0.5, method=method, **options)
    mask = purlkit.prune(model, pair(), sparsity=0.6, method=method, **options)

    assert mask.total - mask.kept == 888
    assert not model[1].weight[:12].any()
    # A pruned network can be pruned on, and what is left is a part of what was.
    further = purlkit.prune(model, pair(), sparsity=0.9, method=method, **options)
    assert mask & further == further


def test_only_the_gradual_methods_train_the_model() -> None:
    for method in baselines.METHODS:
        model, dense = net(), net()
        mask = purlkit.prune(model, pair(), sparsity=0.5, method=method, **QUICK.get(method, {}))
        kept = mask.keep["1"]
        same = torch.equal(model[1].weight[kept], dense[1].weight[kept])
        assert same == (method not in baselines.FROM_TRAINING), method


@pytest.mark.parametrize("method", [*baselines.FROM_TRAINING, *baselines.FROM_SCORES])
def test_what_learns_from_images_asks_for_them(method: str) -> None:
    with pytest.raises(MissingData, match="give data"):
        purlkit.prune(net(), sparsity=0.5, method=method)


def test_by_default_it_is_lamp_at_nine_tenths() -> None:
    model = net()
    expected = baselines.method("lamp")(purlkit.prunable_layers(model), 0.9)

    assert purlkit.prune(model) == expected


def test_options_reach_the_method() -> None:
    mask = purlkit.prune(net(), sparsity=0.8, method="global-mt", minimum_threshold=0.1)

    assert mask.per_layer["3"][0] >= 148
    with pytest.raises(InvalidSpec, match="lamp has no option colour"):
        purlkit.prune(net(), colour="red")


def test_refusals() -> None:
    with pytest.raises(UnknownName, match="use one of amc, erk"):
        purlkit.prune(net(), method="magic")
    with pytest.raises(InvalidSpec, match="nothing to prune"):
        purlkit.prune(nn.Sequential(nn.ReLU()))
    with pytest.raises(InvalidSpec, match="0 or more"):
        purlkit.prune(net(), floor=-1)
    for threshold in (-0.1, 2.0, float("nan")):
        with pytest.raises(InvalidSpec, match="from 0 to 1"):
            purlkit.prune(net(), method="global-mt", minimum_threshold=threshold)
