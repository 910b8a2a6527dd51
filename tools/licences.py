"""The licences of the packages that are installed here: `python -m tools.licences`. Asks nobody, and takes a second."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageMetadata, distributions

# What more than a line says is a licence's whole text.
LONGEST = 60


def listed() -> Iterator[tuple[str, str, str]]:
    """Each package with its version and what it says of its licence."""
    found = {(one.metadata["Name"].lower(), one.version): _licence(one.metadata) for one in distributions()}
    for (name, version), licence in sorted(found.items()):
        yield name, version, licence


def _licence(said: PackageMetadata) -> str:
    by_class = [line.rpartition(" :: ")[2] for line in said.get_all("Classifier", []) if line.startswith("License :: ")]
    words = said.get("License-Expression") or said.get("License") or ", ".join(by_class)
    if len(words.splitlines()) > 1 or len(words) > LONGEST:
        words = ", ".join(by_class) or words.strip().splitlines()[0][:LONGEST]
    return words or "says nothing"


if __name__ == "__main__":
    for name, version, licence in listed():
        print(f"{licence:<40} {name} {version}")
