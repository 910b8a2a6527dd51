"""Gradual pruning: the schedule, masks that only shrink, and the exact end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from purlkit.baselines.global_magnitude import global_magnitude
from purlkit.baselines.gradual import cubic, global_gradual, gmp
from purlkit.checkpoint import fingerprint
from purlkit.errors import CollapsedLayer, UnreachableSparsity
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.spec import Training
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train
from purlkit.zoo.datasets import digits
from tests.unit.networks import digits_net, some_images

Gradual = Callable[..., Mask]
both = pytest.mark.parametrize("gradual", [global_gradual, gmp])


def quick(epochs: int = 8) -> Training:
    return Training(epochs=epochs, batch_size=20, learning_rate=0.1)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))


def history(gradual: Gradual, model: nn.Module, epochs: int = 8, sparsity: float = 0.9) -> list[Mask]:
    """What was left at the end of each epoch."""
    masks: list[Mask] = []
    gradual(
        model,
        some_images(40),
        sparsity,
        training=quick(epochs),
        on_epoch=lambda *_: masks.append(Mask.from_weights(prunable_layers(model))),
    )
    return masks


def test_the_schedule_by_hand() -> None:
    # 1 - (3/4)^3, 1 - (1/2)^3, 1 - (1/4)^3 of 0.64
    assert [cubic(0.64, epoch, 4) for epoch in range(6)] == pytest.approx([0.0, 0.37, 0.56, 0.63, 0.64, 0.64])
    assert cubic(0.64, 0, 0) == 0.64


@both
def test_each_epoch_trains_at_the_sparsity_of_the_schedule(gradual: Gradual) -> None:
    masks = history(gradual, net())

    # Of 1,480 weights, over a ramp of 6 epochs: 1480 * 0.9 * (1 - (1 - t/6)^3)
    assert [mask.total - mask.kept for mask in masks] == [0, 561, 937, 1166, 1283, 1326, 1332, 1332]


@both
def test_masks_only_shrink(gradual: Gradual) -> None:
    masks = history(gradual, digits_net(width=2))

    for before, after in itertools.pairwise(masks):
        assert before & after == after


@both
def test_what_is_removed_stays_zero_through_momentum_and_decay(gradual: Gradual) -> None:
    model = net()
    masks: list[Mask] = []
    training = Training(epochs=8, batch_size=5, learning_rate=0.5, momentum=0.99, weight_decay=0.01)

    mask = gradual(
        model,
        some_images(40),
        0.9,
        training=training,
        on_epoch=lambda *_: masks.append(Mask.from_weights(prunable_layers(model))),
    )

    assert [kept.total - kept.kept for kept in masks] == [0, 561, 937, 1166, 1283, 1326, 1332, 1332]
    assert Mask.from_weights(prunable_layers(model)) == mask


def test_adam_carries_nothing_away_from_zero_either() -> None:
    model = net()
    training = Training(epochs=4, batch_size=5, learning_rate=0.01, optimizer="adam")

    mask = global_gradual(model, some_images(40), 0.9, training=training)

    assert Mask.from_weights(prunable_layers(model)) == mask


def test_a_schedule_that_forgets_revives_nothing() -> None:
    model = net()
    layers = prunable_layers(model)
    half = global_magnitude(layers, 0.5)

    train(model, some_images(40), quick(3), seed=0, shrink=lambda epoch: Mask.dense(layers) if epoch else half)

    assert Mask.from_weights(layers) == half


@both
@pytest.mark.parametrize("epochs", [1, 2, 3, 7])
def test_the_end_is_exact_however_short_the_training(gradual: Gradual, epochs: int) -> None:
    model = net()

    mask = gradual(model, some_images(40), 0.95, training=quick(epochs))

    assert mask.total - mask.kept == 1406  # of 1480
    assert Mask.from_weights(prunable_layers(model)) == mask
    assert sum(kept for kept, _ in mask.per_layer.values()) == 74


def test_the_uniform_one_takes_the_same_share_of_every_layer() -> None:
    assert list(gmp(net(), some_images(40), 0.9, training=quick()).per_layer.values()) == [(128, 1280), (20, 200)]


def test_the_global_one_ranks_the_weights_as_training_has_left_them() -> None:
    model, twin = net(), net()
    training = Training(epochs=2, batch_size=20, learning_rate=0.1)

    mask = global_gradual(model, some_images(40), 0.5, training=training)

    seen: list[Mask] = []

    def cut_before_the_second_epoch(epoch: int) -> Mask:
        layers = prunable_layers(twin)
        if epoch == 0:
            return Mask.dense(layers)
        sizes = torch.cat([layer.weight.detach().abs().flatten() for layer in layers])
        threshold = sizes.sort().values[740]
        seen.append(Mask({layer.name: layer.weight.detach().abs() >= threshold for layer in layers}))
        return seen[-1]

    train(twin, some_images(40), training, seed=0, shrink=cut_before_the_second_epoch)
    assert mask == seen[0]
    assert fingerprint(model) == fingerprint(twin)


@both
def test_zeros_of_the_given_model_count_and_stay(gradual: Gradual) -> None:
    model = net()
    with torch.no_grad():
        model[1].weight[:10] = 0  # 640 of 1480 from the start

    masks = history(gradual, model, sparsity=0.6)

    assert [mask.total - mask.kept for mask in masks][:2] == [640, 640]  # the schedule asks for 374 in the second
    assert masks[-1].total - masks[-1].kept == 888
    assert not model[1].weight[:10].any()


@both
def test_a_target_out_of_reach_is_refused_before_any_training(gradual: Gradual) -> None:
    model = net()
    before = fingerprint(model)

    with pytest.raises(UnreachableSparsity, match=r"from 0 to 0\.998648"):
        gradual(model, some_images(40), 0.9999, training=quick())

    assert fingerprint(model) == before


def test_a_layer_that_loses_all_is_named_where_no_floor_is_wanted() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Linear(1, 10))
    with torch.no_grad():
        model[2].weight.mul_(1e-6)

    with pytest.raises(CollapsedLayer, match="left of 2"):
        global_gradual(model, some_images(40), 0.9, training=Training(epochs=1, learning_rate=1e-9), floor=0)


@both
def test_the_same_seed_gives_the_same_bits(gradual: Gradual) -> None:
    def trained(seed: int) -> str:
        model = net()
        gradual(model, some_images(40), 0.9, training=quick(4), seed=seed)
        return fingerprint(model)

    assert trained(1) == trained(1) != trained(2)


@both
def test_it_learns_from_an_untrained_and_from_a_trained_model(gradual: Gradual) -> None:
    splits = digits(Path())
    untrained, trained = digits_net(width=4), digits_net(width=4)
    train(trained, splits.train, Training(epochs=8, learning_rate=0.1), seed=0)

    for model, training in ((untrained, Training(epochs=8)), (trained, Training(epochs=4, learning_rate=0.02))):
        mask = gradual(model, splits.train, 0.7, training=training)
        assert accuracy(model, splits.test) > 0.85
        assert Mask.from_weights(prunable_layers(model)) == mask
