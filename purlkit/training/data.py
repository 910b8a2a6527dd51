"""Images that live on the device, and the four splits that no two purposes share. Batches are indices into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from purlkit.errors import NotEnoughData


@dataclass(frozen=True, eq=False)
class Images:
    """Normalised images x (n, C, H, W) and their classes y (n)."""

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} images but {len(self.y)} classes")

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor | slice) -> Images:
        return Images(self.x[index], self.y[index])

    @property
    def device(self) -> torch.device:
        return self.x.device

    def to(self, device: torch.device | str) -> Images:
        return Images(self.x.to(device), self.y.to(device))


@dataclass(frozen=True)
class Splits:
    """Each image is in one of these, and each has one purpose."""

    train: Images  # trains, and holds the retraining subset
    reward: Images  # drives the search
    select: Images  # chooses among the candidates
    test: Images  # is reported, and no choice is made by it

    @property
    def sizes(self) -> dict[str, int]:
        return {field.name: len(getattr(self, field.name)) for field in fields(self)}

    def to(self, device: torch.device | str) -> Splits:
        return Splits(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def without_test(self) -> Splits:
        """What everything works with until all is decided: nothing can be measured on no image."""
        return replace(self, test=self.test[:0])

    def with_reward_images(self, n: int | None) -> Splits:
        """The same with only the first n images of the reward split; the others are used for nothing.

        So every search on a data set leaves the same images to train on, to choose by and to report.
        """
        if n is None:
            return self
        if n > len(self.reward):
            raise NotEnoughData(
                f"the reward split has {len(self.reward)} images",
                at="/search/reward_images",
                remedy=f"ask for at most {len(self.reward)}",
            )
        return replace(self, reward=self.reward[:n])


def splits_of(data: Splits | tuple[Tensor, Tensor]) -> Splits:
    """The splits given, or those of a pair (x, y): a fifth for the reward, by a fixed shuffle, and the rest to train.

    A pair leaves nothing to choose by and to report on: keep images of your own for that.

    >>> splits_of((torch.zeros(10, 1, 4, 4), torch.arange(10))).sizes
    {'train': 8, 'reward': 2, 'select': 0, 'test': 0}
    """
    if isinstance(data, Splits):
        return data
    images = Images(*data)
    if len(images) < 2:
        raise NotEnoughData("there is not one image to train on and one to measure by", remedy="give at least 2")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).to(images.device)
    reward = max(1, len(images) // 5)
    return Splits(images[order[reward:]], images[order[:reward]], images[:0], images[:0])


def subset(train: Images, n: int, seed: int) -> Images:
    """The fixed retraining subset: the first n of a seeded shuffle of the training split."""
    if n > len(train):
        raise NotEnoughData(
            f"the training split has {len(train)} images",
            at="/search/retrain/images",
            remedy=f"ask for at most {len(train)}",
        )
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    return train[order[:n].to(train.device)]


def steps_per_epoch(images: int, batch_size: int) -> int:
    return -(-images // batch_size)


def batches(images: Images, batch_size: int, generator: torch.Generator) -> Iterator[Images]:
    """One shuffled pass in the fewest batches of at most `batch_size`, as even as can be.

    Even, because a last batch of one image has no variance and makes batch norm fail.
    """
    order = torch.randperm(len(images), generator=generator).to(images.device)
    for index in order.tensor_split(steps_per_epoch(len(images), batch_size)):
        yield images[index]
