"""Made-up images in any shape and number of classes: for load tests, and for networks whose data are elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from purlkit.errors import InvalidSpec
from purlkit.seeds import derive
from purlkit.training.data import ALL, Images, Share, Splits
from purlkit.zoo.catalog import Shape

# Drawn at this size at most, then enlarged.
GRID = 8
# As strong as the pictures: to be learnt from many images, not from one.
NOISE = 1.0
MOST_BYTES = 2**31


@dataclass(frozen=True, eq=False)
class Enlarged:
    """Small images, shown at full size only when they are looked at: any number of any shape fits into memory."""

    small: Images
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.small)

    @property
    def shape(self) -> torch.Size:
        return torch.Size([self.small.shape[0], *self.size])

    @property
    def device(self) -> torch.device:
        return self.small.device

    @property
    def nbytes(self) -> int:
        return self.small.nbytes

    def to(self, device: torch.device | str) -> Enlarged:
        return replace(self, small=self.small.to(device))

    def __getitem__(self, index: Tensor | slice) -> Images:
        part = self.small[index]
        x = functional.interpolate(part.x, self.size, mode="bilinear", align_corners=False)
        return Images(x.contiguous(memory_format=torch.channels_last), part.y)

    def batches(
        self,
        order: Tensor,
        parts: int,
        generator: torch.Generator,  # noqa: ARG002
        *,
        share: Share = ALL,
        skip: int = 0,
    ) -> Iterator[Images]:
        for index in order.to(self.device).tensor_split(parts)[skip:]:
            yield self[index[share.part(len(index))]]


def procedural(
    root: Path,  # noqa: ARG001 - nothing is read
    *,
    shape: Shape = (3, 32, 32),
    classes: int = 10,
    images: int = 2000,
    seed: int = 0,
) -> Splits:
    """`images` to train on, and for the reward, select and test split a sixth of that each."""
    channels, height, width = shape
    grid = channels, min(height, GRID), min(width, GRID)
    if 4 * prod(grid) * (classes + 3 * images // 2) > MOST_BYTES:
        remedy = "ask for fewer images, classes or channels"
        raise InvalidSpec(f"these images need more than {MOST_BYTES} bytes", at="/dataset/kwargs", remedy=remedy)
    pictures = torch.randn(classes, *grid, generator=torch.Generator().manual_seed(derive(seed, "pictures")))

    def split(name: str, n: int) -> Enlarged:
        generator = torch.Generator().manual_seed(derive(seed, name))
        y = torch.randint(classes, (n,), generator=generator)
        x = (pictures[y] + NOISE * torch.randn(n, *grid, generator=generator)) / (1 + NOISE**2) ** 0.5
        return Enlarged(Images(x, y), (height, width))

    return Splits(split("train", images), *(split(name, images // 6) for name in ("reward", "select", "test")))
