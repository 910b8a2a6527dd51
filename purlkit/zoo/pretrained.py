"""torchvision's published weights: the operator's files, known by the hash in their names."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torchvision import models  # type: ignore[import-untyped]

from purlkit import spec
from purlkit.errors import MissingWeights
from purlkit.zoo import catalog

FOLDER = "weights"
# Classifiers at half depth, which our networks are built without.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def url_of(name: str) -> str:
    """Of the first weights that torchvision published: the papers pruned those, and not the later, better ones."""
    weights = models.get_model_weights(name)
    first = weights.__members__.get("IMAGENET1K_V1", weights.DEFAULT)
    return str(first.url)


def read(model: spec.Model, root: Path, *, download: bool = False) -> dict[str, Tensor]:
    """The tensors of the file that belongs to the model, from the folder `weights` of the data root.

    The file is a pickle. It is opened by torch's restricted reader, and only if its sha256 begins as its name says.
    """
    name = str(catalog.model(model.name).fixed["name"])
    url = url_of(name)
    path = root / FOLDER / url.rpartition("/")[2]
    if not path.exists() and download:
        _fetch(url, path)
    if not path.exists():
        remedy = f"put {url} into the folder {FOLDER} of the data root, or start the service with PURL_DOWNLOAD=1"
        raise MissingWeights(f"{FOLDER}/{path.name} is not under the data root", at="/model/weights", remedy=remedy)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):
        raise _damaged(path)
    try:
        tensors = cast(dict[str, Tensor], torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise _damaged(path) from error
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(_AUXILIARY)}


def _fetch(url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), progress=False)  # to a file beside it first
    except OSError as error:
        remedy = f"put it into the folder {FOLDER} of the data root by hand"
        raise MissingWeights(f"{url} can't be fetched", at="/model/weights", remedy=remedy) from error


def _damaged(path: Path) -> MissingWeights:
    return MissingWeights(
        f"{FOLDER}/{path.name} is not what its name says", at="/model/weights", remedy="remove it and fetch it again"
    )
