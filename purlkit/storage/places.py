"""Where data sets lie: a folder of this machine, or s3://bucket/prefix with a cache on each node.

Credentials and the store's address are those of the process that asks, in the usual AWS_* variables: neither a spec nor
the service ever says them. What needs its files whole on this machine gets them in `at_hand`; what reads them one by
one gets a `Place`, which looks like a pathlib.Path.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

S3 = "s3://"


class Place(Protocol):
    """As much of a pathlib.Path as reading from it takes."""

    @property
    def name(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    def __truediv__(self, name: str, /) -> Place: ...
    def is_dir(self) -> bool: ...
    def exists(self) -> bool: ...
    def iterdir(self) -> Iterable[Place]: ...
    def open(self, mode: Literal["rb"], /) -> BinaryIO: ...


def place(root: str | Path, *, patient: bool = True) -> Place:
    """The data root by its name. `patient`: a store that does not answer is asked again for two minutes."""
    if not str(root).startswith(S3):
        return Path(root)
    from purlkit.storage.bucket import PATIENCE_SECONDS, BucketPlace, Source
    from purlkit.storage.filecache import FileCache

    bucket, _, prefix = str(root).removeprefix(S3).partition("/")
    patience = PATIENCE_SECONDS if patient else 0.0
    return BucketPlace(Source.of(bucket, prefix, FileCache.of_this_node(), patience=patience))


@contextmanager
def at_hand(root: Place, names: Sequence[str]) -> Iterator[Path]:
    """A folder of this machine that has these files and folders of the root, as long as the context lasts.

    What is missing there is missing here. In a cache they stay where they are, open so that nobody removes them.
    """
    if isinstance(root, Path):
        yield root
        return
    with ExitStack() as opened, tempfile.TemporaryDirectory(prefix="purl-data-") as made:
        for name in names:
            _bring(root / name, Path(made) / name, opened)
        yield Path(made)


def _bring(here: Place, to: Path, opened: ExitStack) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if here.is_dir():
        for inner in here.iterdir():
            _bring(inner, to / inner.name, opened)
    elif here.exists():
        to.symlink_to(opened.enter_context(here.open("rb")).name)
