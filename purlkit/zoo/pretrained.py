"""torchvision's published weights: the operator's files, known by the hash in their names."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from purlkit import spec
from purlkit.errors import MissingWeights, WeightsDontFit
from purlkit.storage.places import at_hand, place
from purlkit.zoo import catalog
from purlkit.zoo.fetching import alone, fetch

FOLDER = "weights"
AT = "/model/weights"
# Classifiers at half depth, which our networks are built without.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
# The published DenseNets say norm.1 where the network says norm1.
_DENSENETS = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def url_of(name: str) -> str:
    """Of the first weights that torchvision published: the papers pruned those, and not the later, better ones."""
    # Here and not above: torchvision loads torch's compiler, which takes as long as torch itself, and few jobs need it.
    from torchvision import models  # type: ignore[import-untyped]

    weights = models.get_model_weights(name)
    first = weights.__members__.get("IMAGENET1K_V1", weights.DEFAULT)
    return str(first.url)


def load(network: nn.Module, model: spec.Model, root: str | Path, *, download: bool = False) -> None:
    """What torchvision publishes for the model goes into the network, from the folder `weights` of the data root."""
    url = url_of(str(catalog.model(model.name).fixed["name"]))
    here = place(root)
    with at_hand(here, [f"{FOLDER}/{_file_of(url)}"]) as folder:
        fit(network, tensors_of(find(url, folder, download=download and isinstance(here, Path))))


def fit(network: nn.Module, tensors: OrderedDict[str, Tensor]) -> None:
    """Files of all ages: the modules know their older names by the version that stands in the file."""
    for name in list(tensors):
        tensor = tensors.pop(name)
        if not name.startswith(_AUXILIARY):
            tensors[_DENSENETS.sub(r"\1\2", name)] = tensor
    try:
        network.load_state_dict(tensors, assign=next(network.parameters()).is_meta)
    except (RuntimeError, ValueError) as error:
        remedy = "use the versions of torch and torchvision that requirements.lock names"
        raise WeightsDontFit("the published weights don't fit the network", at=AT, remedy=remedy) from error


def find(url: str, root: Path, *, download: bool) -> Path:
    path = root / FOLDER / _file_of(url)
    where = f"put {url} into the folder {FOLDER} of the data root"
    if not path.exists() and download:
        try:
            with alone(root):
                fetch(url, path)
        except OSError as error:
            raise MissingWeights(f"{path.name} can't be fetched", at=AT, remedy=f"{where} by hand") from error
    if not path.exists():
        remedy = f"{where}, or start the service with PURL_DOWNLOAD=1"
        raise MissingWeights(f"{FOLDER}/{path.name} is not under the data root", at=AT, remedy=remedy)
    return path


def _file_of(url: str) -> str:
    return url.rpartition("/")[2]


def tensors_of(path: Path) -> OrderedDict[str, Tensor]:
    """The file is a pickle. torch's restricted reader opens it, and only if its sha256 begins as its name says."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    problem = MissingWeights(f"{path.name} is not what its name says", at=AT, remedy="remove it and fetch it again")
    if not digest.startswith(path.stem.rpartition("-")[2]):
        raise problem
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise problem from error
    if not isinstance(tensors, OrderedDict):
        raise problem
    return tensors
