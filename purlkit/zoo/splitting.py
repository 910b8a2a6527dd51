"""What the loaders share: a fixed shuffle, normal images, and the error for files that are not there."""

from __future__ import annotations

import torch
from torch import Tensor

from purlkit.errors import MissingData
from purlkit.training.data import Augment, Images, Splits
from purlkit.zoo.catalog import DatasetEntry

# The splits belong to the data set, not to the job: results of different jobs are measured on the same images.
SHUFFLE_SEED = 0


def shuffled(n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(SHUFFLE_SEED))


def normalised(parts: list[tuple[Tensor, Tensor]], *, augment: Augment | None = None) -> Splits:
    """Each channel normalised by the training split's own mean and deviation; training alone augments."""
    train = parts[0][0].double()
    mean, std = train.mean((0, 2, 3), keepdim=True), train.std((0, 2, 3), keepdim=True)
    scale, shift = (1 / std).float(), (-mean / std).float()
    images = [
        Images((x.float() * scale + shift).contiguous(memory_format=torch.channels_last), y.long()) for x, y in parts
    ]
    return Splits(Images(images[0].x, images[0].y, augment), *images[1:])


def missing(entry: DatasetEntry, what: str = "are missing") -> MissingData:
    """Names the exact layout, and the switch where torchvision could fetch it."""
    remedy = entry.expected + (", or start the service with PURL_DOWNLOAD=1" if entry.downloads else "")
    return MissingData(f"the files of {entry.name} {what}", at="/dataset/name", remedy=remedy)
