"""The names that a spec may use, without torch: what is built from them lives in zoo/models.py and zoo/datasets.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from purlkit.errors import InvalidSpec, UnknownName


@dataclass(frozen=True, kw_only=True)
class Option:
    """One keyword argument of a builder, with the range it may take."""

    default: int
    low: int
    high: int
    about: str


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    name: str
    builder: str  # "module:function", imported only where torch is
    dataset: str  # what it is trained on when the spec names no data set
    about: str
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    name: str
    loader: str  # "module:function", imported only where torch is
    shape: tuple[int, int, int]
    classes: int
    about: str
    files: tuple[str, ...] = ()  # what must be under the data root; none where a package brings the images
    options: Mapping[str, Option] = field(default_factory=dict)


MODELS = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name="digits-resnet",
            builder="purlkit.zoo.models:digits_resnet",
            dataset="digits",
            about="a residual net for 8×8 grey images: 10 prunable layers, 77 k weights at width 16",
            options={"width": Option(default=16, low=1, high=512, about="channels of the first stage")},
        ),
        ModelEntry(
            name="mlp",
            builder="purlkit.zoo.models:mlp",
            dataset="digits",
            about="two hidden layers",
            options={"hidden": Option(default=64, low=1, high=65_536, about="width of both hidden layers")},
        ),
    )
}

DATASETS = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            name="digits",
            loader="purlkit.zoo.datasets:digits",
            shape=(1, 8, 8),
            classes=10,
            about="1,797 real handwritten digits of scikit-learn; no files needed",
        ),
        DatasetEntry(
            name="cifar10",
            loader="purlkit.zoo.datasets:cifar10",
            shape=(3, 32, 32),
            classes=10,
            about="60,000 colour images; needs the python version's files under the data root",
            files=("cifar-10-batches-py",),
        ),
    )
}

# What search.algorithm and baselines in a spec may be.
SEARCHES = {"purl": "PuRL: a DQN walks over the layers and chooses where each is cut"}
BASELINES = {
    "uniform": "the same share from every layer",
    "global": "one threshold for the magnitudes of all layers together",
    "global-mt": "the same, with a minimum number of weights that every layer keeps",
    "lamp": "one threshold for scores that compare each weight with those of its layer that are not smaller",
    "erk": "each layer's density follows from its shape: the smaller and squarer, the denser",
}


def model(name: str, *, at: str = "/model/name") -> ModelEntry:
    if name not in MODELS:
        raise UnknownName(kind="model", known=sorted(MODELS), at=at)
    return MODELS[name]


def dataset(name: str, *, at: str = "/dataset/name") -> DatasetEntry:
    if name not in DATASETS:
        raise UnknownName(kind="data set", known=sorted(DATASETS), at=at)
    return DATASETS[name]


def check_kwargs(entry: ModelEntry | DatasetEntry, kwargs: Mapping[str, object], *, at: str) -> None:
    """Refuses an argument that the builder does not have or that is out of its range."""
    for key, value in kwargs.items():
        option = entry.options.get(key)
        if option is None:
            known = ", ".join(sorted(entry.options)) or "none"
            escaped = key.replace("~", "~0").replace("/", "~1")
            raise InvalidSpec(
                f"{entry.name} has no such argument", at=f"{at}/{escaped}", remedy=f"its arguments are: {known}"
            )
        if isinstance(value, bool) or not isinstance(value, int) or not option.low <= value <= option.high:
            raise InvalidSpec(
                f"{key} is not a whole number in its range",
                at=f"{at}/{key}",
                remedy=f"use a whole number from {option.low} to {option.high}",
            )
