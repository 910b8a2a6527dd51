"""What can be seen of the catalog's data sets from here: which files are there, and if not, why not."""

from __future__ import annotations

from pathlib import Path

from purlkit.errors import PurlError
from purlkit.results import Sight
from purlkit.storage.places import Place, place
from purlkit.zoo import catalog


def sights(root: str | Path) -> list[Sight]:
    """Whether each data set's files are there; what is in them only its loader knows."""
    here: Place | None = None
    in_the_way: str | None = None
    found = []
    for entry in catalog.all_datasets().values():
        reason = in_the_way if entry.files else None
        if entry.files and reason is None:
            try:
                here = here or place(root, patient=False)
                reason = _lack(entry, here)
            except PurlError as problem:  # the store's or this machine's, and the same for all
                reason = in_the_way = str(problem)
        found.append(Sight(name=entry.name, reason=reason))
    return found


def _lack(entry: catalog.DatasetEntry, here: Place) -> str | None:
    absent = [file for file in entry.files if not (here / file).exists()]
    if not absent:
        return None
    # Where a part is there, whoever put it there knows the layout as a whole.
    return entry.expected if len(absent) == len(entry.files) else f"{', '.join(absent)} is missing: {entry.expected}"
