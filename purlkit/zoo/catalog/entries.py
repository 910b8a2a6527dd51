"""What the catalog says of a model or a data set, in plain values: no entry needs torch to be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from purlkit.errors import InvalidSpec

Shape = tuple[int, int, int]
Value = int | str | tuple[int, ...]

PRETRAINED_CLASSES = 1000

_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One keyword argument of a builder or loader; what its default is, a value must be.

    `low` and `high` bound a whole number, each number of a row, or the length of a name.
    """

    default: Value
    low: int
    high: int
    about: str

    def allows(self, value: object) -> bool:
        if isinstance(self.default, tuple):
            return isinstance(value, tuple) and len(value) == len(self.default) and all(map(self._bounds, value))
        if isinstance(self.default, str):
            return isinstance(value, str) and bool(_NAME.fullmatch(value)) and self.low <= len(value) <= self.high
        return self._bounds(value)

    @property
    def allowed(self) -> str:
        if isinstance(self.default, tuple):
            return f"{len(self.default)} whole numbers from {self.low} to {self.high}"
        if isinstance(self.default, str):
            return f"{self.low} to {self.high} letters, digits, dots, dashes and underscores, a letter or digit first"
        return f"a whole number from {self.low} to {self.high}"

    def _bounds(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A network by name. Its builder gets `shape`, `classes`, what is `fixed` and the spec's kwargs."""

    name: str
    builder: str  # "module:function", imported only where torch is
    dataset: str  # what it is trained on when the spec names no data set
    about: str
    options: Mapping[str, Option] = field(default_factory=dict)
    fixed: Mapping[str, int | str] = field(default_factory=dict)
    pretrained: bool = False  # whether torchvision publishes weights of it
    provider: str = "purlkit"
    package: str | None = None  # what must be installed beside purlkit[prune]


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """A data set by name. Its loader gets the data root and the spec's kwargs.

    An option called `shape`, `size` (of square images) or `classes` says what the images are like: so a job's network
    is known from its spec alone, wherever the data are.
    """

    name: str
    loader: str  # "module:function", imported only where torch is
    shape: Shape
    classes: int
    about: str
    files: tuple[str, ...] = ()  # what must be under the data root; none where nothing is needed
    layout: str = ""  # the same in a sentence with the source, if there is more to say than the names
    options: Mapping[str, Option] = field(default_factory=dict)
    downloads: bool = False  # whether torchvision can fetch it
    # Its loader gets a purlkit.storage.places.Place, which may be in S3, and may open files from it later on. Other
    # loaders get a folder of this machine that has all of `files` while they run.
    read_as_needed: bool = False
    provider: str = "purlkit"

    @property
    def expected(self) -> str:
        """What a user reads when it is missing."""
        return self.layout or f"put {', '.join(self.files)} into the data root"

    def shape_with(self, kwargs: Mapping[str, object]) -> Shape:
        said = {name: option.default for name, option in self.options.items()} | dict(kwargs)
        channels, height, width = self.shape
        if isinstance(shape := said.get("shape"), tuple):
            channels, height, width = shape
        if isinstance(size := said.get("size"), int):
            height = width = size
        return channels, height, width

    def classes_with(self, kwargs: Mapping[str, object]) -> int:
        option = self.options.get("classes")
        said = kwargs.get("classes", option.default if option else self.classes)
        return said if isinstance(said, int) else self.classes


def check_kwargs(entry: ModelEntry | DatasetEntry, kwargs: Mapping[str, object], *, at: str) -> None:
    """Refuses an argument that the builder or loader does not have or that is out of its range."""
    for key, value in kwargs.items():
        option = entry.options.get(key)
        if option is None:
            known = ", ".join(sorted(entry.options)) or "none"
            escaped = key.replace("~", "~0").replace("/", "~1")
            raise InvalidSpec(
                f"{entry.name} has no such argument", at=f"{at}/{escaped}", remedy=f"its arguments are: {known}"
            )
        if not option.allows(value):
            raise InvalidSpec(f"{key} is not what it may be", at=f"{at}/{key}", remedy=f"use {option.allowed}")


def check_pretrained(entry: ModelEntry, *, classes: int) -> None:
    """Refuses published weights of a model that has none, or for other classes than ImageNet's."""
    at = "/model/weights"
    if not entry.pretrained:
        remedy = "train it here, upload weights, or choose a model of torchvision"
        raise InvalidSpec(f"there are no published weights of {entry.name}", at=at, remedy=remedy)
    if classes != PRETRAINED_CLASSES:
        remedy = f"name a data set of {PRETRAINED_CLASSES} classes, such as imagenet"
        raise InvalidSpec("the published weights tell ImageNet's classes apart", at=at, remedy=remedy)
