"""An S3 bucket as the store: objects PREFIX/blobs/ab/<sha256>.

Bytes are spooled to an unnamed file on this machine first, which gives them their name before S3 sees any of them:
so an object is whole and right from its first moment, and an upload that fails can begin anew. See docs/adr.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import obstore
from obstore import exceptions
from obstore.store import S3Store as Bucket

from services.artifacts.store import Blob, Writer, check_name, disk_errors, is_sha256
from services.errors import NotFound, StoreUnavailable

if TYPE_CHECKING:
    from services.settings import S3Location

log = logging.getLogger(__name__)

BLOBS = "blobs"
# S3 takes parts of at least 5 MiB and at most 10,000 of them: enough for 78 GiB, with 32 MiB in memory at a time.
PART_BYTES = 8 * 2**20
PARTS_AT_ONCE = 4
READ_BYTES = 256 * 1024
# One request, and all tries of it together: a worker that sends waits 30 s for its answer, then sends again.
REQUEST_SECONDS = 15
TRIES = 2
# An answer that breaks off is gone on with so often.
RESUMES = 3


class S3Store:
    """`options` are obstore's, over what the AWS_* variables say."""

    def __init__(
        self, location: S3Location, *, spool: Path, request_seconds: float = REQUEST_SECONDS, **options: Any
    ) -> None:
        self._spool = spool
        spool.mkdir(parents=True, exist_ok=True)
        endpoint = str(options.get("endpoint") or _endpoint(os.environ))
        self._bucket = Bucket(
            location.bucket,
            prefix=location.prefix or None,
            client_options={
                "timeout": timedelta(seconds=request_seconds),
                "connect_timeout": "5s",
                "allow_http": endpoint.startswith("http://"),
            },
            retry_config={"max_retries": TRIES, "retry_timeout": timedelta(seconds=request_seconds)},
            **options,
        )

    def begin(self) -> S3Writer:
        return S3Writer(self)

    def open(self, sha256: str, *, first: int = 0, last: int | None = None) -> BinaryIO:
        # Asked before the answer begins: what can't be read is then an error here and no broken stream.
        size = self.size(check_name(sha256))
        if size is None:
            raise NotFound("file")
        end = size if last is None else min(last + 1, size)
        return io.BufferedReader(_Download(self._pieces(sha256, first, end)), READ_BYTES)

    def size(self, sha256: str) -> int | None:
        """None for what is not there."""
        with _s3_errors():
            try:
                return obstore.head(self._bucket, _key(sha256))["size"]
            except FileNotFoundError:
                return None

    def put(self, blob: Blob, file: BinaryIO) -> None:
        """An answer that got lost is settled by looking: an object of that name is whole, or it is not there."""
        file.seek(0)
        try:
            with _s3_errors():
                obstore.put(self._bucket, _key(blob.sha256), file, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
        except StoreUnavailable:
            if self.size(blob.sha256) != blob.bytes:
                raise

    def link(self, sha256: str, *, seconds: int) -> str | None:
        return obstore.sign(self._bucket, "GET", _key(check_name(sha256)), timedelta(seconds=seconds))

    def remove(self, sha256: str) -> None:
        with _s3_errors():
            try:
                obstore.delete(self._bucket, _key(check_name(sha256)))
            except FileNotFoundError:
                return

    def listing(self) -> Iterator[tuple[str, float]]:
        now = datetime.now(UTC)
        with _s3_errors():
            for page in obstore.list(self._bucket, f"{BLOBS}/"):
                for found in page:
                    sha256 = found["path"].rpartition("/")[2]
                    if is_sha256(sha256) and found["path"] == _key(sha256):
                        yield sha256, (now - found["last_modified"]).total_seconds()

    def clear_unfinished(self, *, older_than_seconds: float) -> int:  # noqa: ARG002
        """The spool's files have no names and go with their writers; the bucket's own rule ends unfinished uploads."""
        return 0

    def check(self) -> None:
        with self.begin() as writer:
            writer.write(b"?")
        with _s3_errors():
            next(iter(obstore.list(self._bucket, f"{BLOBS}/", chunk_size=1)), None)

    def spool_file(self) -> BinaryIO:
        return tempfile.TemporaryFile(dir=self._spool)

    def _pieces(self, sha256: str, first: int, end: int) -> Iterator[bytes]:
        """Goes on where an answer broke off, as long as any of the tries brings something."""
        failures = 0
        while first < end:
            try:
                with _s3_errors():
                    answer = obstore.get(self._bucket, _key(sha256), options={"range": (first, end)})
                    for piece in answer.stream(min_chunk_size=READ_BYTES):
                        first += len(piece)
                        failures = 0
                        yield bytes(piece)
            except StoreUnavailable:
                failures += 1
                if failures > RESUMES:
                    raise


class S3Writer(Writer):
    def __init__(self, store: S3Store) -> None:
        self._store = store
        with disk_errors():
            file = store.spool_file()
        super().__init__(file)

    def _keep(self, blob: Blob) -> None:
        self._store.put(blob, self._file)


class _Download(io.RawIOBase):
    """The pieces of an answer as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        taken = min(len(into), len(self._left))
        into[:taken] = self._left[:taken]
        self._left = self._left[taken:]
        return taken


def _key(sha256: str) -> str:
    return f"{BLOBS}/{sha256[:2]}/{sha256}"


def _endpoint(environ: Mapping[str, str]) -> str:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((environ[name] for name in names if environ.get(name)), "")


@contextmanager
def _s3_errors() -> Iterator[None]:
    """Whatever S3 or the way to it has against a request. A bucket that is not there is "not found" as well."""
    try:
        yield
    except (exceptions.BaseError, FileNotFoundError) as problem:
        log.warning("S3 fails: %s", str(problem).partition("\n")[0])
        raise StoreUnavailable from problem
