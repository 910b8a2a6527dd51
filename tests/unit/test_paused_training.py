"""A training that is stopped after an epoch and taken up again ends with the bits of one that never stopped."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from purlkit import checkpoint
from purlkit.checkpoint import fingerprint
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.spec import Training
from purlkit.training.augment import crop_and_mirror
from purlkit.training.data import Images
from purlkit.training.loop import train
from purlkit.training.paused import Paused
from tests.unit.networks import digits_net, some_images

IMAGES = some_images(90)


def with_dropout() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 10))


def by_a_file(model: nn.Module, paused: Paused) -> tuple[nn.Module, Paused]:
    """Another copy of the network, and the rest as it comes back from safetensors."""

    def stored(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return checkpoint.from_bytes(checkpoint.to_bytes(tensors, metadata={}))[0]

    other = copy.deepcopy(model)
    checkpoint.load_into(other, stored(checkpoint.tensors_of(model)))
    return other, Paused(paused.epochs, stored(paused.tensors))


@pytest.mark.parametrize("build", [lambda: digits_net(width=4), with_dropout], ids=["channels-last", "dropout"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_bits_however_often_it_stops(build: Any, optimizer: Any) -> None:
    training = Training(epochs=4, batch_size=30, learning_rate=0.01, optimizer=optimizer)
    whole, pieces = build(), build()
    mask = Mask({layer.name: layer.weight.detach().abs() > 0.05 for layer in prunable_layers(whole)})

    assert train(whole, IMAGES, training, seed=5, mask=mask) is None
    paused = train(pieces, IMAGES, training, seed=5, mask=mask, stop=lambda done: done == 1)
    stops = []
    while paused is not None:
        stops.append(paused.epochs)
        pieces, paused = by_a_file(pieces, paused)
        torch.rand(3)  # what happens between two pieces has no say
        paused = train(pieces, IMAGES, training, seed=5, mask=mask, paused=paused, stop=lambda done: done != 2)

    assert stops == [1, 3]
    assert fingerprint(pieces) == fingerprint(whole)
    assert Mask.from_weights(prunable_layers(pieces)) & mask == Mask.from_weights(prunable_layers(pieces))


def test_a_piece_does_a_piece_of_the_work() -> None:
    model, epochs = digits_net(width=4), []
    training = Training(epochs=3, batch_size=30)

    paused = train(model, IMAGES, training, seed=0, on_epoch=lambda done, _: epochs.append(done), stop=lambda _: True)
    train(model, IMAGES, training, seed=0, on_epoch=lambda done, _: epochs.append(done), paused=paused)

    assert paused is not None
    assert (paused.epochs, epochs) == (1, [1, 2, 3])


def test_the_callers_generators_are_left_as_they_were() -> None:
    model = with_dropout()
    before = torch.get_rng_state()

    paused = train(model, IMAGES, Training(epochs=2, batch_size=30), seed=0, stop=lambda _: True)
    train(model, IMAGES, Training(epochs=2, batch_size=30), seed=0, paused=paused)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("build", [lambda: digits_net(width=4), with_dropout], ids=["channels-last", "dropout"])
def test_the_same_bits_stopped_in_the_middle_of_an_epoch(build: Any) -> None:
    """Augmented, so that the order's generator moves within the epoch too."""
    images = Images(IMAGES.x, IMAGES.y, augment=crop_and_mirror)
    training = Training(epochs=2, batch_size=30, learning_rate=0.01)
    whole, pieces, stops, turn = build(), build(), [], itertools.count()

    train(whole, images, training, seed=5)
    paused = train(pieces, images, training, seed=5, pause_when=lambda: True)
    while paused is not None:
        stops.append((paused.epochs, paused.batches))
        pieces, paused = by_a_file(pieces, paused)
        paused = train(pieces, images, training, seed=5, paused=paused, pause_when=lambda: next(turn) % 2 == 1)

    assert stops == [(0, 1), (1, 1)]
    assert fingerprint(pieces) == fingerprint(whole)


def test_what_shrinks_is_not_stopped_within_an_epoch() -> None:
    model = digits_net(width=4)
    with pytest.raises(ValueError, match="shrink"):
        train(
            model,
            IMAGES,
            Training(epochs=1),
            seed=0,
            shrink=lambda _: Mask.dense(prunable_layers(model)),
            pause_when=lambda: True,
        )
