"""A data root in S3: folders are listed, files are fetched when they are opened and kept in the node's cache."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar

from purlkit.errors import DataUnreachable, MissingData, MissingPackage, PurlError
from purlkit.storage.filecache import FileCache

if TYPE_CHECKING:
    from obstore import BytesStream, GetResult, ObjectMeta
    from obstore.store import S3Store

log = logging.getLogger("purl.data")

T = TypeVar("T")

# Which content an object has: its size and its ETag in few bytes, for there may be a million of them.
Version = bytes
# What is directly in each folder, the folders without a version.
Tree = dict[str, dict[str, Version | None]]

# A store that fails for a minute costs nobody an epoch.
PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 1.0
REQUEST_SECONDS = 15.0
PIECE_BYTES = 2**20
# A listing comes a thousand names at a time, one page after the other: folders are listed beside each other.
LISTERS = 16

AT = "/dataset/name"
# What is asked, in vain, of a machine without a role where no keys are set.
OF_CREDENTIALS = ("//169.254.", "/latest/api/token", "/latest/meta-data", "redential")
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role,"


@dataclass
class Source:
    """A bucket and a prefix, as one process sees them. A folder that was listed once stays as it was then.

    Another process that gets it by pickle knows what was listed, and has a client and a cache of its own node.
    """

    name: str
    bucket: S3Store
    cache: FileCache
    patience: float
    _trees: dict[str, Tree] = field(default_factory=dict)
    _listing: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, bucket: str, prefix: str, cache: FileCache, *, patience: float) -> Source:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            remedy = "install purlkit[s3] where the workers run"
            raise MissingPackage("data sets in S3 are read with obstore", at=AT, remedy=remedy) from error
        store = S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            client_options={
                "timeout": timedelta(seconds=REQUEST_SECONDS),
                "connect_timeout": "5s",
                "allow_http": True,  # the operator's own address says which it is
            },
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=REQUEST_SECONDS)},
        )
        return cls(f"{bucket}/{prefix.strip('/')}", store, cache, patience)

    def __reduce__(self) -> tuple[Any, ...]:
        with self._listing:
            return _elsewhere, (self.name, self.patience, dict(self._trees))

    def entries(self, folder: str) -> dict[str, Version | None] | None:
        """What is directly in a folder, the folders without a version; None where there is no such folder."""
        with self._listing:
            for above in (folder, *map(str, PurePosixPath(folder).parents)):
                if above in self._trees:
                    return self._trees[above].get(folder)
            self._trees[folder] = self._tree(folder)
            return self._trees[folder].get(folder)

    def has(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        import obstore

        if self._asked(lambda: next(iter(obstore.list(self.bucket, f"{path}/", chunk_size=1)), None)):
            return True
        try:
            self._asked(lambda: obstore.head(self.bucket, path))
        except MissingData as why:
            if isinstance(why.__cause__, FileNotFoundError):  # others say that nobody can know
                return False
            raise
        return True

    def open(self, path: str, version: Version) -> BinaryIO:
        named = f"{self.name} {path} ".encode() + version
        return self.cache.open(hashlib.sha256(named).hexdigest(), lambda: self._fetch(path, version))

    def _tree(self, folder: str) -> Tree:
        import obstore

        # Of a million objects all that is known takes a gigabyte: only name and version are kept of each page.
        def below(prefix: str) -> list[tuple[str, Version]]:
            pages = partial(obstore.list, self.bucket, f"{prefix}/", chunk_size=1000)
            return self._asked(lambda: [_named(each) for page in pages() for each in page])

        top = self._asked(lambda: obstore.list_with_delimiter(self.bucket, f"{folder}/" if folder else None))
        if not folder:  # all of the bucket would be much more than anybody asked for
            return {"": dict.fromkeys(top["common_prefixes"]) | dict(map(_named, top["objects"]))}
        with ThreadPoolExecutor(LISTERS, thread_name_prefix="list") as pool:
            parts = [[_named(each) for each in top["objects"]], *pool.map(below, top["common_prefixes"])]
        tree: Tree = {}
        for path, version in (each for part in parts for each in part):
            parent, _, name = path.rpartition("/")
            tree.setdefault(parent, {}).setdefault(name, version)
            while len(parent) > len(folder):
                parent, _, name = parent.rpartition("/")
                tree.setdefault(parent, {})[name] = None
        return tree

    def _fetch(self, path: str, version: Version) -> tuple[int, Iterator[bytes]]:
        import obstore

        answer = self._asked(lambda: obstore.get(self.bucket, path))
        if _version(answer.meta) != version:
            raise MissingData(
                f"{path} is no longer what it was when the data set was listed",
                at=AT,
                remedy="leave the files of a data set as they are while jobs use them",
            )
        return answer.meta["size"], self._pieces(answer, path)

    def _pieces(self, answer: GetResult, path: str) -> Iterator[bytes]:
        """Goes on where an answer broke off, as long as it is the same object."""
        import obstore

        size, etag, got = answer.meta["size"], answer.meta["e_tag"], 0
        whole: BytesStream | None = answer.stream(min_chunk_size=PIECE_BYTES)

        def following() -> bytes:
            nonlocal whole
            coming, whole = whole, None  # of a stream that has failed nothing more is taken
            if coming is None:
                rest = obstore.get(self.bucket, path, options={"range": (got, size), "if_match": etag})
                coming = rest.stream(min_chunk_size=PIECE_BYTES)
            piece = bytes(next(iter(coming), b""))
            whole = coming
            return piece

        while got < size:
            piece = self._asked(following)
            if not piece:
                return
            got += len(piece)
            yield piece

    def _asked(self, request: Callable[[], T]) -> T:
        """The answer; raises what a user can do something about, a store that is silent only after a while."""
        from obstore.exceptions import BaseError

        deadline = time.monotonic() + self.patience
        while True:
            try:
                return request()
            except (BaseError, FileNotFoundError) as problem:
                why = _explained(problem)
                if not isinstance(why, DataUnreachable) or time.monotonic() > deadline:
                    raise why from problem
                log.warning("%s; asking again", why)
            time.sleep(PAUSE_SECONDS)


@dataclass(frozen=True)
class BucketPlace:
    """A file or a folder below the root. See purlkit.storage.places.Place."""

    source: Source
    path: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    def __truediv__(self, name: str, /) -> BucketPlace:
        return BucketPlace(self.source, f"{self.path}/{name}".strip("/"))

    def is_dir(self) -> bool:
        return self.source.entries(self.path) is not None

    def exists(self) -> bool:
        """One question, whatever is below it."""
        return self.source.has(self.path)

    def iterdir(self) -> Iterable[BucketPlace]:
        return [self / name for name in sorted(self.source.entries(self.path) or {})]

    def open(self, mode: Literal["rb"], /) -> BinaryIO:  # noqa: ARG002
        version = self._version()
        if version is None:
            raise FileNotFoundError(self.path)
        return self.source.open(self.path, version)

    def _version(self) -> Version | None:
        parent, _, name = self.path.rpartition("/")
        return (self.source.entries(parent) or {}).get(name)


def _elsewhere(name: str, patience: float, trees: dict[str, Tree]) -> Source:
    bucket, _, prefix = name.partition("/")
    source = Source.of(bucket, prefix, FileCache.of_this_node(), patience=patience)
    source._trees = trees
    return source


def _version(meta: ObjectMeta) -> Version:
    return hashlib.blake2b(f"{meta['size']} {meta['e_tag']}".encode(), digest_size=12).digest()


def _named(meta: ObjectMeta) -> tuple[str, Version]:
    return meta["path"], _version(meta)


def _explained(problem: Exception) -> PurlError:
    """S3's answers to listings reach us as text alone."""
    said = str(problem)
    if any(sign in said for sign in OF_CREDENTIALS):
        return MissingData("the workers have no credentials for the data root", at=AT, remedy=f"set {KEYS} there")
    if "NoSuchBucket" in said:
        remedy = "make it, or correct PURL_DATASETS_DIR"
        return MissingData("the bucket of the data root does not exist", at=AT, remedy=remedy)
    if " 401 " in said or " 403 " in said:
        remedy = f"give the workers {KEYS} that may list and read it"
        return MissingData("the store of the data root refuses the workers", at=AT, remedy=remedy)
    if "Received redirect" in said:
        remedy = "set AWS_REGION to the bucket's where the workers run"
        return MissingData("the bucket of the data root lies in another region", at=AT, remedy=remedy)
    if "object with invalid path" in said:
        remedy = "rename it, or name a prefix that is without it"
        return MissingData("a name below the data root has an empty part, or is . or ..", at=AT, remedy=remedy)
    if isinstance(problem, FileNotFoundError) or " 412 " in said:
        remedy = "leave the files of a data set as they are while jobs use them"
        return MissingData("a file of the data set is gone or was changed", at=AT, remedy=remedy)
    why = said.partition("\n")[0].rpartition(" - ")[2][:200]
    remedy = "look at AWS_ENDPOINT_URL_S3 where the workers run, and at the store"
    return DataUnreachable(f"the store of the data root does not answer ({why})", at=AT, remedy=remedy)
