"""Crops and mirrors of training images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from purlkit.training.augment import PADDING, crop_and_mirror
from purlkit.training.data import Images, batches


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def all_views(image: Tensor) -> list[Tensor]:
    """Every crop of the padded image, plain and mirrored."""
    height, width = image.shape[1:]
    padded = functional.pad(image, (PADDING,) * 4)
    crops = [
        padded[:, top : top + height, left : left + width]
        for top in range(2 * PADDING + 1)
        for left in range(2 * PADDING + 1)
    ]
    return [view for crop in crops for view in (crop, crop.flip(2))]


def test_each_is_one_of_its_own_162_views() -> None:
    x = torch.randn(40, 3, 9, 11, generator=seeded(0))

    moved = crop_and_mirror(x, seeded(1))

    places = [
        next(place for place, view in enumerate(all_views(image)) if torch.equal(view, seen))
        for image, seen in zip(x, moved, strict=True)
    ]
    assert len(set(places)) > 25, "they are moved each in its own way"
    assert 8 < sum(place % 2 for place in places) < 32, "about half are mirrored"


def test_a_seed_repeats_it() -> None:
    x = torch.randn(8, 1, 8, 8, generator=seeded(0))

    assert torch.equal(crop_and_mirror(x, seeded(3)), crop_and_mirror(x, seeded(3)))
    assert not torch.equal(crop_and_mirror(x, seeded(3)), crop_and_mirror(x, seeded(4)))


def test_a_pass_augments_and_a_look_does_not() -> None:
    images = Images(torch.randn(10, 1, 8, 8, generator=seeded(0)), torch.arange(10), crop_and_mirror)

    (batch,) = batches(images, 10, seeded(1))

    assert sorted(batch.y.tolist()) == list(range(10))
    assert not any(torch.equal(seen, images.x[y]) for seen, y in zip(batch.x, batch.y, strict=True))
    assert torch.equal(images[:].x, images.x)
    assert images.to("cpu").augment is crop_and_mirror
