"""Data sets by name, each as four disjoint splits. Nothing is fetched here: what is missing is said."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from purlkit import spec
from purlkit.errors import MissingData
from purlkit.training.data import Images, Splits
from purlkit.zoo import catalog

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]

# The splits belong to the data set, not to the job: results of different jobs are measured on the same images.
SHUFFLE_SEED = 0


def load(dataset: spec.Dataset, root: Path, *, device: torch.device | str = "cpu") -> Splits:
    """The named data set, from files under `root` where it needs any."""
    loader: Callable[..., Splits] = pkgutil.resolve_name(catalog.dataset(dataset.name).loader)
    return loader(root, **dataset.kwargs).to(device)


def digits(root: Path) -> Splits:  # noqa: ARG001 - the images come inside scikit-learn
    """1,797 handwritten digits of 8×8: 1,000 train, 250 reward, 250 select, 297 test."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    bunch = load_digits()
    x, y = torch.as_tensor(bunch.images).unsqueeze(1), torch.as_tensor(bunch.target)
    parts = _shuffled(len(y)).split([1000, 250, 250, 297])
    return _splits([(x[part], y[part]) for part in parts])


def cifar10(root: Path, *, held_out: int = 5000, reader: type[CIFAR10] | None = None) -> Splits:
    """CIFAR-10 as torchvision reads it; `held_out` training images each for the reward and the select split.

    The official test images are the test split.
    """
    from torchvision.datasets import CIFAR10

    reader = reader or CIFAR10
    try:
        train, test = (reader(str(root), train=part, download=False) for part in (True, False))
    except RuntimeError as error:  # torchvision's word for an absent file and for one with another checksum
        raise MissingData(
            "the files of cifar10 are missing or damaged",
            at="/dataset/name",
            remedy="the data root must hold the folder cifar-10-batches-py with data_batch_1 to data_batch_5, "
            "test_batch and batches.meta; unpack cifar-10-python.tar.gz from "
            "https://www.cs.toronto.edu/~kriz/cifar.html there",
        ) from error
    x, y = torch.as_tensor(train.data).permute(0, 3, 1, 2), torch.as_tensor(train.targets)
    order = _shuffled(len(y))
    parts = order.split([len(y) - 2 * held_out, held_out, held_out])
    official = torch.as_tensor(test.data).permute(0, 3, 1, 2), torch.as_tensor(test.targets)
    return _splits([*((x[part], y[part]) for part in parts), official])


def _shuffled(n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(SHUFFLE_SEED))


def _splits(parts: list[tuple[Tensor, Tensor]]) -> Splits:
    """Each channel normalised by the training split's own mean and deviation."""
    train = parts[0][0].double()
    mean, std = train.mean((0, 2, 3), keepdim=True), train.std((0, 2, 3), keepdim=True)
    scale, shift = (1 / std).float(), (-mean / std).float()
    return Splits(
        *(Images((x.float() * scale + shift).contiguous(memory_format=torch.channels_last), y.long()) for x, y in parts)
    )
