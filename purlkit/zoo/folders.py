"""Images in folders named by their class: ImageNet as torchvision lays it out, and the operator's own."""

from __future__ import annotations

import torch

from purlkit.errors import MissingData
from purlkit.storage.places import Place
from purlkit.training.data import Splits
from purlkit.training.files import ImageFiles
from purlkit.zoo import catalog
from purlkit.zoo.splitting import missing, shuffled

SUFFIXES = {".jpeg", ".jpg", ".png", ".bmp", ".ppm", ".webp"}
# At most so many training images, and a tenth of all, are held out. The reward split is in memory while a search
# runs: 1,000 images of 224×224 are 600 MB.
REWARD, SELECT = 1000, 5000


def imagenet(root: Place, *, size: int = 224, classes: int = 1000) -> Splits:
    return _splits(root / "imagenet", "imagenet", classes, size)


def image_folder(root: Place, *, folder: str = "images", classes: int = 10, size: int = 224) -> Splits:
    return _splits(root / "image-folder" / folder, "image-folder", classes, size)


def _splits(folder: Place, name: str, classes: int, size: int) -> Splits:
    """The validation images, which are the official ones with known classes, are the test split."""
    if not (folder / "train").is_dir() or not (folder / "val").is_dir():
        raise missing(catalog.dataset(name))
    names = _classes(folder / "train", classes)
    if _classes(folder / "val", classes) != names:
        raise _mistaken("train and val have different classes", "give both the same folders")
    train, test = (_files(folder / part, names, size) for part in ("train", "val"))
    reward, select = min(REWARD, len(train) // 10), min(SELECT, len(train) // 10)
    if reward == 0 or len(test) == 0:
        raise _mistaken("there are too few images", "give at least 10 in train and one in val")
    order = shuffled(len(train))
    return Splits(
        train=train.part(order[reward + select :]),
        reward=train.part(order[:reward]),
        select=train.part(order[reward : reward + select]),
        test=test,
    )


def _classes(folder: Place, expected: int) -> list[str]:
    """A class is numbered by its place among the sorted folders, as torchvision does it."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) != expected:
        raise _mistaken(
            f"{folder.name} has {len(names)} folders, and {expected} classes are expected",
            "bring the two together; the number of an image-folder is its argument `classes`",
        )
    return names


def _files(folder: Place, names: list[str], size: int) -> ImageFiles:
    found = [(name, _images(folder / name)) for name in names]
    paths = [f"{name}/{file}" for name, files in found for file in files]
    counts = torch.tensor([len(files) for _, files in found])
    return ImageFiles(folder, paths, torch.arange(len(names)).repeat_interleave(counts), size)


def _images(folder: Place) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def _mistaken(problem: str, remedy: str) -> MissingData:
    return MissingData(problem, at="/dataset", remedy=remedy)
