"""What PURL_DOWNLOAD=1 allows: public files into the data root, by one process at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Two processes that fetch the same file would write into each other's."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".download.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(url: str, path: Path) -> None:
    """Raises OSError where there is no such file or no network. What is there is whole: it is written beside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(path), progress=False)
