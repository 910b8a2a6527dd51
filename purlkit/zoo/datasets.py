"""Data sets by name, each as four disjoint splits; here those that are small enough to live on the device."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from purlkit import spec
from purlkit.storage.places import at_hand, place
from purlkit.training.augment import crop_and_mirror
from purlkit.training.data import Splits
from purlkit.zoo import catalog
from purlkit.zoo.fetching import alone
from purlkit.zoo.splitting import missing, normalised, shuffled

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]

# Training images that are held out for the reward split, and as many for the select split.
CIFAR_HELD_OUT = 5000


def load(
    dataset: spec.Dataset,
    root: str | Path,
    *,
    device: torch.device | str = "cpu",
    download: bool = False,
    patient: bool = True,
) -> Splits:
    """The named data set, from files under `root` where it needs any: a folder, or s3://bucket/prefix.

    Into a folder they are fetched first, if that is allowed and possible.
    """
    entry = catalog.dataset(dataset.name)
    loader: Callable[..., Splits] = pkgutil.resolve_name(entry.loader)
    options = {name: option.default for name, option in entry.options.items()} | dict(dataset.kwargs)
    here = place(root, patient=patient)
    if entry.read_as_needed:
        return loader(here, **options).to(device)
    if download and entry.downloads and isinstance(here, Path):
        with alone(here):
            return loader(here, download=True, **options).to(device)
    with at_hand(here, entry.files) as folder:
        return loader(folder, **options).to(device)


def digits(root: Path) -> Splits:  # noqa: ARG001 - the images come inside scikit-learn
    """1,797 handwritten digits of 8×8: 1,000 train, 250 reward, 250 select, 297 test."""
    x, y = _scikit_learns_digits()
    parts = shuffled(len(y)).split([1000, 250, 250, 297])
    return normalised([(x[part], y[part]) for part in parts])


def _scikit_learns_digits() -> tuple[Tensor, Tensor]:
    """From the package's own file, where it is: to import it brings scipy and pandas, a second of CPU a process."""
    package = find_spec("sklearn")
    [folder] = (package and package.submodule_search_locations) or [""]
    file = Path(folder, "datasets", "data", "digits.csv.gz")
    if file.exists():
        rows = np.loadtxt(file, delimiter=",")
        images, labels = rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(int)
    else:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]

        bunch = load_digits()
        images, labels = bunch.images, bunch.target
    return torch.as_tensor(images).unsqueeze(1), torch.as_tensor(labels)


def cifar10(root: Path, *, download: bool = False) -> Splits:
    from torchvision.datasets import CIFAR10

    return cifar(root, "cifar10", CIFAR10, download=download)


def cifar100(root: Path, *, download: bool = False) -> Splits:
    from torchvision.datasets import CIFAR100

    return cifar(root, "cifar100", CIFAR100, download=download)


def cifar(
    root: Path, name: str, reader: type[CIFAR10], *, held_out: int = CIFAR_HELD_OUT, download: bool = False
) -> Splits:
    """As torchvision reads it, with `held_out` training images each for the reward and the select split.

    The files are pickles, which can run code: torchvision opens none whose md5 is not that of the published one. The
    official test images are the test split.
    """
    try:
        train, test = (reader(str(root), train=part, download=download) for part in (True, False))
    except (RuntimeError, OSError) as error:  # an absent file, another checksum; no network
        raise missing(catalog.dataset(name), "can't be fetched" if download else "are missing or damaged") from error
    x, y = (_pixels(data) for data in (train, test)), (torch.as_tensor(data.targets) for data in (train, test))
    (x_train, x_test), (y_train, y_test) = x, y
    parts = shuffled(len(y_train)).split([len(y_train) - 2 * held_out, held_out, held_out])
    return normalised([*((x_train[part], y_train[part]) for part in parts), (x_test, y_test)], augment=crop_and_mirror)


def _pixels(data: CIFAR10) -> Tensor:
    return torch.as_tensor(data.data).permute(0, 3, 1, 2)
