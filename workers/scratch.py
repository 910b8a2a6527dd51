"""Where a worker may write, and where it finds data: said by the launcher, or by the node that it runs on.

A launcher removes the folder that it gave. On a cluster nobody looks after a node's disk: an attempt that is killed, or
ends itself, leaves its folder there. So each folder is held by a lock that the kernel lets go with its owner, whatever
ends it, and the next attempt on the node removes those that nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

PREFIX = "purl-attempt-"
HELD = "held"


@contextmanager
def folder(environ: Mapping[str, str]) -> Iterator[Path]:
    """The launcher's folder, which it removes; on a cluster one of our own."""
    given = environ.get("PURL_SCRATCH_DIR")
    if given:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as made, _held(Path(made)):
        _remove_what_nobody_holds(Path(made).parent)
        yield Path(made)


def datasets(environ: Mapping[str, str]) -> str:
    """The data root. On a cluster a path is the nodes' own, the same on each; s3://… means the same everywhere."""
    return environ.get("PURL_DATASETS_DIR") or str(Path.home() / "datasets")


@contextmanager
def _held(made: Path) -> Iterator[None]:
    """It gets its name when it is locked: who finds it there can tell."""
    unnamed = made / "to-be-held"
    with unnamed.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(made / HELD)
        yield


def _remove_what_nobody_holds(parent: Path) -> None:
    """Of this account alone: others may put what they like into a folder that all share."""
    for left in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if left.lstat().st_uid == os.getuid() and not left.is_symlink() and _is_free(left / HELD):
                shutil.rmtree(left, ignore_errors=True)


def _is_free(lock: Path) -> bool:
    """Raises OSError where there is none."""
    descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    with closing(os.fdopen(descriptor)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
