"""Batches and the retraining subset."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from purlkit.errors import NotEnoughData
from purlkit.training.data import Images, Splits, batches, steps_per_epoch, subset


def numbered(n: int) -> Images:
    """Image i has class i, so that the classes tell which images are where."""
    return Images(torch.zeros(n, 1, 2, 2), torch.arange(n))


@given(st.integers(1, 300), st.integers(1, 120))
def test_a_pass_sees_every_image_once_in_even_batches(images: int, batch_size: int) -> None:
    parts = [part.y for part in batches(numbered(images), batch_size, torch.Generator().manual_seed(0))]

    assert sorted(torch.cat(parts).tolist()) == list(range(images))
    assert len(parts) == steps_per_epoch(images, batch_size)
    assert max(map(len, parts)) <= batch_size
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_image_too_many_makes_no_batch_of_one() -> None:
    assert [len(part) for part in batches(numbered(101), 100, torch.Generator())] == [51, 50]


def test_each_pass_has_another_order_and_a_seed_repeats_them() -> None:
    def two_passes() -> list[list[int]]:
        generator = torch.Generator().manual_seed(7)
        return [next(batches(numbered(50), 50, generator)).y.tolist() for _ in range(2)]

    assert two_passes()[0] != two_passes()[1]
    assert two_passes() == two_passes()


def test_the_subset_is_the_beginning_of_a_seeded_shuffle() -> None:
    train = numbered(100)

    assert subset(train, 10, seed=3).y.tolist() == subset(train, 50, seed=3).y.tolist()[:10]
    assert subset(train, 10, seed=3).y.tolist() != subset(train, 10, seed=4).y.tolist()
    assert sorted(subset(train, 100, seed=3).y.tolist()) == list(range(100))


def test_a_subset_larger_than_the_split_is_refused_at_its_field() -> None:
    with pytest.raises(NotEnoughData, match="at most 100") as caught:
        subset(numbered(100), 101, seed=0)

    assert caught.value.at == "/search/retrain/images"


def test_images_and_classes_belong_together() -> None:
    with pytest.raises(ValueError, match="3 images but 2 classes"):
        Images(torch.zeros(3, 1, 2, 2), torch.zeros(2))


def test_fewer_reward_images_leave_the_other_splits_as_they_are() -> None:
    splits = Splits(*(numbered(100)[part] for part in torch.arange(100).split([40, 30, 20, 10])))

    fewer = splits.with_reward_images(5)

    assert fewer.reward.y.tolist() == [40, 41, 42, 43, 44]
    assert fewer.sizes == {"train": 40, "reward": 5, "select": 20, "test": 10}
    assert (fewer.train, fewer.select, fewer.test) == (splits.train, splits.select, splits.test)
    assert splits.with_reward_images(None) is splits
    with pytest.raises(NotEnoughData, match="at most 30") as refused:
        splits.with_reward_images(31)
    assert refused.value.at == "/search/reward_images"
