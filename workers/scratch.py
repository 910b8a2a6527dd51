"""Where a worker may write, and where it finds data: said by the launcher, or by the node that it runs on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder(environ: Mapping[str, str]) -> Iterator[Path]:
    """The launcher's folder, which it removes; on a cluster one of our own."""
    given = environ.get("PURL_SCRATCH_DIR")
    if given:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="purl-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def datasets(environ: Mapping[str, str]) -> Path:
    """On a cluster PURL_DATASETS_DIR is the nodes' own, the same path on each."""
    return Path(environ.get("PURL_DATASETS_DIR") or Path.home() / "datasets")
