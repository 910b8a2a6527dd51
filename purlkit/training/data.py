"""The images of a job: what every purpose needs of them, those that live on the device, and the four splits.

Batches are indices. What does not fit into memory is a `Samples` of another kind (purlkit/training/files.py), of which
only what is looked at again and again is brought in as `Images`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from purlkit.errors import InvalidSpec, NotEnoughData
from purlkit.training.buffers import packed, remade

# What training does to a batch that nothing else does: crops and mirrors, say. All that is random comes from the
# generator, which the seed of the training started.
Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Share:
    """Which part of every batch is whose, where several processes train together."""

    rank: int = 0
    of: int = 1

    def part(self, n: int) -> slice:
        """Of n in a row, as evenly as can be."""
        return slice(n * self.rank // self.of, n * (self.rank + 1) // self.of)


ALL = Share()


class Samples(Protocol):
    """So many images with their classes, wherever they are."""

    @property
    def shape(self) -> torch.Size: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def nbytes(self) -> int: ...  # of memory that they hold now

    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor | slice) -> Images: ...
    def to(self, device: torch.device | str) -> Samples: ...

    def batches(
        self, order: Tensor, parts: int, generator: torch.Generator, *, share: Share = ALL, skip: int = 0
    ) -> Iterator[Images]:
        """One pass in this order, in even parts, as training sees them: this share of each.

        The first `skip` are left out, but what is random about them is drawn, so that the others are the same.
        """


@dataclass(frozen=True, eq=False)
class Images:
    """Normalised images x (n, C, H, W) and their classes y (n), in memory."""

    x: Tensor
    y: Tensor
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} images but {len(self.y)} classes")

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor | slice) -> Images:
        """As they are: the search's subset, and every part that something is measured on, is not augmented."""
        return Images(self.x[index], self.y[index])

    @property
    def shape(self) -> torch.Size:
        return self.x.shape[1:]

    @property
    def device(self) -> torch.device:
        return self.x.device

    @property
    def nbytes(self) -> int:
        return int(self.x.nbytes + self.y.nbytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return remade, (Images, (packed(self.x), packed(self.y)), (self.augment,))

    def to(self, device: torch.device | str) -> Images:
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def batches(
        self, order: Tensor, parts: int, generator: torch.Generator, *, share: Share = ALL, skip: int = 0
    ) -> Iterator[Images]:
        for number, index in enumerate(order.to(self.device).tensor_split(parts)):
            if self.augment is None:
                if number >= skip:
                    yield self[index[share.part(len(index))]]
                continue
            batch = self[index]
            augmented = self.augment(batch.x, generator)
            if number >= skip:
                mine = share.part(len(index))
                yield Images(augmented[mine], batch.y[mine])


@dataclass(frozen=True)
class Splits:
    """Each image is in one of these, and each has one purpose."""

    train: Samples  # trains, and holds the retraining subset
    reward: Samples  # drives the search
    select: Samples  # chooses among the candidates
    test: Samples  # is reported, and no choice is made by it

    @property
    def sizes(self) -> dict[str, int]:
        return {field.name: len(getattr(self, field.name)) for field in fields(self)}

    def to(self, device: torch.device | str) -> Splits:
        return Splits(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def without_test(self) -> Splits:
        """What everything works with until all is decided: nothing can be measured on no image."""
        return replace(self, test=self.test[:0])

    def with_reward_images(self, n: int | None) -> Splits:
        """The same with only the first n images of the reward split, in memory; the others are used for nothing.

        So every search on a data set leaves the same images to train on, to choose by and to report.
        """
        if n is None and isinstance(self.reward, Images):
            return self
        self.require(reward_images=n)
        return replace(self, reward=self.reward[:n])

    def require_for_each(self, workers: int, batch_size: int) -> None:
        """Raises NotEnoughData where several workers train together and one would have nothing of a batch."""
        least = len(self.train) // max(1, steps_per_epoch(len(self.train), batch_size))
        if workers > max(1, least):
            raise NotEnoughData(
                f"of the {len(self.train)} training images a batch has {least}",
                at="/resources/fine_tune_workers",
                remedy=f"ask for at most {max(1, least)}",
            )

    def require(self, *, reward_images: int | None = None, subset: int = 0, batch_norm: int = 0) -> None:
        """Raises NotEnoughData where a split holds fewer images than a job asks for."""
        _require("reward", self.reward, reward_images or 0, at="/search/reward_images")
        _require("training", self.train, subset, at="/search/retrain/images")
        _require("training", self.train, batch_norm, at="/fine_tune/batch_norm_images")


def _require(split: str, images: Samples, n: int, *, at: str) -> None:
    if n > len(images):
        remedy = f"ask for at most {len(images)}"
        raise NotEnoughData(f"the {split} split has {len(images)} images", at=at, remedy=remedy)


def splits_of(data: Splits | tuple[Tensor, Tensor]) -> Splits:
    """The splits given, or those of a pair (x, y): a fifth for the reward, by a fixed shuffle, and the rest to train.

    A pair leaves nothing to choose by and to report on: keep images of your own for that.

    >>> splits_of((torch.zeros(10, 1, 4, 4), torch.arange(10))).sizes
    {'train': 8, 'reward': 2, 'select': 0, 'test': 0}
    """
    if isinstance(data, Splits):
        for field in fields(data):
            part = getattr(data, field.name)
            if not hasattr(part, "batches") or (isinstance(part, Images) and part.y.is_floating_point()):
                remedy = "give a purlkit.training.data.Images of images and whole numbers for their classes"
                raise InvalidSpec(f"the {field.name} split of data is no row of images", at="/data", remedy=remedy)
        return data
    images = _pair(data)
    if len(images) < 2:
        raise NotEnoughData("there is not one image to train on and one to measure by", remedy="give at least 2")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).to(images.device)
    reward = max(1, len(images) // 5)
    return Splits(images[order[reward:]], images[order[:reward]], images[:0], images[:0])


def _pair(data: Any) -> Images:
    """Finite images and whole numbers for their classes; raises InvalidSpec for anything else."""

    def refuse(problem: str, remedy: str) -> NoReturn:
        raise InvalidSpec(f"data {problem}", at="/data", remedy=remedy)

    if not isinstance(data, (tuple, list)) or len(data) != 2 or not all(isinstance(each, Tensor) for each in data):
        refuse("is no pair of tensors", "give (images, classes), or a purlkit.training.data.Splits")
    x, y = data
    if any(each.is_meta or each.layout is not torch.strided for each in (x, y)):
        refuse("has tensors without values, or sparse ones", "give plain tensors")
    if y.dim() != 1 or y.is_floating_point() or y.is_complex() or y.dtype is torch.bool:
        refuse("has classes that are no row of whole numbers", "give one number for each image")
    if x.dim() == 0 or len(x) != len(y):
        refuse(f"has {len(x) if x.dim() else 0} images and {len(y)} classes", "give one class for each image")
    if not bool(x.isfinite().all()):
        refuse("has images that are not finite", "leave them out")
    return Images(x.detach(), y.long())


def subset(train: Samples, n: int, seed: int) -> Images:
    """The fixed retraining subset: the first n of a seeded shuffle of the training split, in memory and as they are.

    It is not augmented: one pass over it can't overfit, and each step of the search is to cost the same.
    """
    _require("training", train, n, at="/search/retrain/images")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    return train[order[:n].to(train.device)]


def steps_per_epoch(images: int, batch_size: int) -> int:
    return -(-images // batch_size)


def batches(
    images: Samples, batch_size: int, generator: torch.Generator, *, share: Share = ALL, skip: int = 0
) -> Iterator[Images]:
    """One shuffled pass in the fewest batches of at most `batch_size`, as even as can be.

    Even, because a last batch of one image has no variance and makes batch norm fail.
    """
    order = torch.randperm(len(images), generator=generator)
    parts = steps_per_epoch(len(images), batch_size)
    return images.batches(order, parts, generator, share=share, skip=skip)
