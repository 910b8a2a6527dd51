"""Models and data sets of the operator's own packages, found by their entry points.

An entry point of the group purlkit.models names a ModelEntry or a list of them, one of purlkit.datasets a DatasetEntry
or a list. The module that holds them must import without torch: the API reads it too. What builds the network is named
in the entry, as "module:function", and imported where torch is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from purlkit.zoo.catalog.entries import DatasetEntry, ModelEntry

log = logging.getLogger(__name__)

Entry = TypeVar("Entry", ModelEntry, DatasetEntry)


@cache
def models() -> Mapping[str, ModelEntry]:
    return _found("purlkit.models", ModelEntry)


@cache
def datasets() -> Mapping[str, DatasetEntry]:
    return _found("purlkit.datasets", DatasetEntry)


def _found(group: str, kind: type[Entry]) -> dict[str, Entry]:
    """A package that is broken is left out and logged: the service is there for all other models."""
    found: dict[str, Entry] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            entries = _entries(point, kind)
        except Exception:
            log.exception("the entry point %s of %s can't be used", point.name, group)
            continue
        for entry in entries:
            found.setdefault(entry.name, replace(entry, provider="plugin"))
    return found


def _entries(point: EntryPoint, kind: type[Entry]) -> list[Entry]:
    given = point.load()
    entries = [given] if isinstance(given, kind) else list(given)
    if not all(isinstance(entry, kind) for entry in entries):
        raise TypeError(f"{point.value} is neither a {kind.__name__} nor a list of them")
    return entries
