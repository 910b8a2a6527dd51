"""Many searches as one request: a spec, and a grid of what changes in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations, product
from math import prod
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from purlkit.errors import InvalidSpec, PurlError
from purlkit.spec.record import Record, disagree

# All of them are made in one transaction, and shown in one answer.
MOST_JOBS = 256

Path = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^./]+(\.[^./]+)*$")]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Values = Annotated[tuple[Any, ...], Field(strict=False, min_length=1, max_length=MOST_JOBS)]
Named = Annotated[dict[Name, Any], Field(min_length=1, max_length=MOST_JOBS)]


class SweepSpec(Record):
    """Every combination of the grid is a job: {"base": {…}, "grid": {"seed": [0, 1, 2]}} are three."""

    name: str | None = Field(None, max_length=150, description="yours to choose; not unique")
    base: dict[str, Any] = Field(description="what all jobs have in common, as POST /jobs takes it")
    grid: Annotated[dict[Path, Values | Named], Field(min_length=1, max_length=8)] = Field(
        description="by the dotted name of a field, search.reward say, what stands there: a list of values, or an "
        "object of values with names of yours"
    )

    @field_validator("grid")
    @classmethod
    def _each_once(cls, grid: dict[str, Any]) -> dict[str, Any]:
        for one, other in combinations(grid, 2):
            if f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}."):
                raise ValueError(f"{one} and {other} change the same field: make one axis of them")
        for path, axis in grid.items():
            values = [json.dumps(value, sort_keys=True) for value in _values(axis)]
            if len(set(values)) < len(values):
                raise disagree("name each value once", f"/{path}")
        return grid

    @model_validator(mode="after")
    def _not_too_many(self) -> SweepSpec:
        if self.jobs > MOST_JOBS:
            message = f"these are {self.jobs} jobs and a sweep has {MOST_JOBS} at most: make several sweeps"
            raise disagree(message, "/grid")
        return self

    @property
    def jobs(self) -> int:
        return prod(map(len, self.grid.values()))

    def points(self) -> Iterator[SweepPoint]:
        """Every combination, in the order of the grid; its first axis changes last."""
        axes = [[(path, *choice) for choice in _choices(axis)] for path, axis in self.grid.items()]
        for chosen in product(*axes):
            body = deepcopy(self.base)
            for path, _, _, value in chosen:
                _put(body, path, value)
            if self.name is not None:
                said = " ".join(f"{path}={_short(shown)}" for path, _, shown, _ in chosen)
                body["name"] = f"{self.name}: {said}"[:200]
            places = {path: f"/grid/{_escaped(path)}/{_escaped(place)}" for path, place, _, _ in chosen}
            yield SweepPoint({path: shown for path, _, shown, _ in chosen}, body, places, self.base)


@dataclass(frozen=True)
class SweepPoint:
    """One job of a sweep: what sets it apart, and the body that POST /jobs would take."""

    settings: Mapping[str, Any]  # by axis: the value, or its name where it has one
    body: dict[str, Any]
    places: Mapping[str, str]  # by axis: the pointer into the sweep to what was chosen
    base: Mapping[str, Any]

    def place(self, pointer: str) -> str:
        """Where in the sweep stands what is at this pointer in the job."""
        for path, place in self.places.items():
            at = "/" + _escaped(path).replace(".", "/")
            if f"{pointer}/".startswith(f"{at}/"):
                return place + pointer[len(at) :]
            if at.startswith(f"{pointer}/") and not _has(self.base, path, depth=pointer.count("/")):
                return f"/grid/{_escaped(path)}"  # it is there by this name alone
        return f"/base{pointer}"

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """What is wrong with the job is a fault of the sweep, at its place there."""
        try:
            yield
        except PurlError as error:
            if error.at is not None:
                error.at = self.place(error.at)
            raise


def _values(axis: Any) -> list[Any]:
    return list(axis.values()) if isinstance(axis, dict) else list(axis)


def _choices(axis: Any) -> list[tuple[str | int, Any, Any]]:
    """Of an axis each place, what is shown of it, and the value."""
    if isinstance(axis, dict):
        return [(name, name, value) for name, value in axis.items()]
    return [(index, value, value) for index, value in enumerate(axis)]


def _put(body: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    here = body
    for parent in parents:
        here = here.setdefault(parent, {})
        if not isinstance(here, dict):
            raise InvalidSpec(
                "this leads through what is no object in the base", at=f"/grid/{path}", remedy="correct the name"
            )
    here[last] = deepcopy(value)


def _has(body: Any, path: str, *, depth: int) -> bool:
    for part in path.split(".")[:depth]:
        if not isinstance(body, dict) or part not in body:
            return False
        body = body[part]
    return True


def _short(shown: Any) -> str:
    return shown if isinstance(shown, str) else json.dumps(shown)


def _escaped(place: str | int) -> str:
    return str(place).replace("~", "~0").replace("/", "~1")
