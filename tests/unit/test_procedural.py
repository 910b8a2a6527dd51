"""Made-up images of any shape."""

from __future__ import annotations

import pytest
import torch

from purlkit import spec
from purlkit.errors import InvalidSpec
from purlkit.spec import Training
from purlkit.training.data import Splits, batches
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train
from purlkit.zoo import datasets, models


def load(**kwargs: object) -> Splits:
    from pathlib import Path

    return datasets.load(spec.Dataset.model_validate({"name": "procedural", "kwargs": kwargs}), Path("unused"))


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 1, 1), (9, 1, 128), (2, 5, 33)])
def test_any_shape_and_any_number_of_classes(shape: tuple[int, int, int]) -> None:
    splits = load(shape=shape, classes=1000, images=60)
    (batch, _) = batches(splits.train, 30, torch.Generator().manual_seed(0))

    assert splits.sizes == {"train": 60, "reward": 10, "select": 10, "test": 10}
    assert splits.train.shape == shape
    assert batch.x.shape == (30, *shape)
    assert bool(batch.x.isfinite().all())
    assert 0 <= int(batch.y.min()) <= int(batch.y.max()) < 1000


def test_many_large_images_take_little_memory() -> None:
    splits = load(shape=(3, 224, 224), images=10_000)

    assert splits.train.nbytes < 10_000 * 1000, "150,528 numbers each when they are looked at"


def test_what_would_not_fit_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="fewer images, classes or channels") as refused:
        load(shape=(4096, 8, 8), images=1_000_000)

    assert refused.value.at == "/dataset/kwargs"


def test_the_seed_decides_every_image_and_no_two_are_the_same() -> None:
    def all_of(splits: Splits) -> torch.Tensor:
        return torch.cat([part[:].x for part in (splits.train, splits.reward, splits.select, splits.test)])

    generator = torch.get_rng_state()
    images = all_of(load(images=200))

    assert torch.equal(images, all_of(load(images=200)))
    assert not torch.equal(images, all_of(load(images=200, seed=1)))
    assert len(images.flatten(1).unique(dim=0)) == len(images)
    assert torch.equal(torch.get_rng_state(), generator)


def test_they_can_be_learnt() -> None:
    splits = load(shape=(1, 8, 8), images=1000)
    network = models.build(spec.Model(name="mlp"), shape=(1, 8, 8), classes=10, seed=0)

    train(network, splits.train, Training(epochs=5), seed=0)

    assert accuracy(network, splits.test) > 0.9
