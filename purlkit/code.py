"""Which code this is: one sha256 over purlkit and workers, by which service and cluster can tell that theirs differ."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from purlkit.errors import CodeMismatch

PACKAGES = ("purlkit", "workers")


def files() -> dict[str, bytes]:
    """Everything that a worker imports of ours, by its path below the folder that holds the packages."""
    found = {}
    for package in PACKAGES:
        spec = find_spec(package)
        folders = list(spec.submodule_search_locations or []) if spec else []
        for folder in map(Path, folders):
            for path in folder.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    found[f"{package}/{path.relative_to(folder)}"] = path.read_bytes()
    return dict(sorted(found.items()))


def sha256(code: dict[str, bytes] | None = None) -> str:
    whole = hashlib.sha256()
    for name, content in (files() if code is None else code).items():
        whole.update(f"{name}\0{len(content)}\0".encode())
        whole.update(content)
    return whole.hexdigest()


def check(expected: str | None) -> None:
    """CodeMismatch if this is not the code that the service means; whoever says nothing means any."""
    if expected and expected != sha256():
        raise CodeMismatch
