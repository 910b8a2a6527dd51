"""The names that a spec may use, without torch: what is built from them lives in the modules that the entries name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from purlkit.errors import UnknownName
from purlkit.zoo.catalog import plugins
from purlkit.zoo.catalog.datasets import DATASETS
from purlkit.zoo.catalog.entries import DatasetEntry, ModelEntry, Option, Shape, check_kwargs, check_pretrained
from purlkit.zoo.catalog.models import TIMM, own_and_torchvision, timm

__all__ = [
    "BASELINES",
    "DATASETS",
    "MODELS",
    "SEARCHES",
    "DatasetEntry",
    "ModelEntry",
    "Option",
    "Shape",
    "all_datasets",
    "all_models",
    "check_kwargs",
    "check_pretrained",
    "dataset",
    "model",
    "timm",
]

MODELS = own_and_torchvision()

# What search.algorithm and baselines in a spec may be.
SEARCHES = {
    "purl": "PuRL: a DQN walks over the layers and chooses where each is cut",
    "purl-budget": "at exactly the target: a DQN moves weights from layer to layer, from the best naive allocation on",
}
BASELINES = {
    "uniform": "the same share from every layer",
    "global": "one threshold for the magnitudes of all layers together",
    "global-mt": "the same, with a minimum number of weights that every layer keeps",
    "lamp": "one threshold for scores that compare each weight with those of its layer that are not smaller",
    "erk": "each layer's density follows from its shape: the smaller and squarer, the denser",
    "random": "the best by the reward split of as many random policies as the search has episodes",
}

Entry = TypeVar("Entry", ModelEntry, DatasetEntry)


def all_models() -> Mapping[str, ModelEntry]:
    """Every model but timm's thousand. A plugin can't take a name that is ours."""
    return {**plugins.models(), **MODELS}


def all_datasets() -> Mapping[str, DatasetEntry]:
    return {**plugins.datasets(), **DATASETS}


def model(name: str, *, at: str = "/model/name") -> ModelEntry:
    known = timm() if name.startswith(TIMM) else all_models()
    return _named(name, known, "model", at)


def dataset(name: str, *, at: str = "/dataset/name") -> DatasetEntry:
    return _named(name, all_datasets(), "data set", at)


def _named(name: str, known: Mapping[str, Entry], kind: str, at: str) -> Entry:
    if name not in known:
        raise UnknownName(kind=kind, known=_shortly(known), at=at)
    return known[name]


def _shortly(known: Mapping[str, ModelEntry] | Mapping[str, DatasetEntry]) -> list[str]:
    """Our own names and the operator's; a hundred of torchvision's would bury them."""
    ours = sorted(name for name, entry in known.items() if entry.provider in ("purlkit", "plugin"))
    return ours if len(ours) == len(known) else [*ours, "another name of GET /models"]
