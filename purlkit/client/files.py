"""Files on their way: a download goes on where it broke and is checked in the end, an upload knows its hash."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from purlkit.client.problems import DownloadDamaged
from purlkit.client.records import Artifact

CHUNK = 2**20

OnBytes = Callable[[int, int], None]  # so many of so many


class Download:
    """One artifact into one folder. Nothing is there under its name before all of it is there and proven."""

    def __init__(self, artifact: Artifact, folder: Path, on_bytes: OnBytes | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.artifact = artifact
        self.path = folder / Path(artifact.name).name
        # The hash in the name: what another version of the file left unfinished is not gone on with.
        self._part = folder / f".{self.path.name}.{artifact.sha256[:16]}.part"
        self._on_bytes = on_bytes or _unheeded
        if self._have > artifact.bytes:
            self._part.unlink()

    @property
    def done(self) -> bool:
        """The file is here already, byte for byte."""
        return self.path.is_file() and _sha256(self.path) == self.artifact.sha256

    @property
    def complete(self) -> bool:
        return self._have == self.artifact.bytes

    @property
    def headers(self) -> dict[str, str]:
        """Ask for what is missing, if the file is still the same; else for all of it."""
        # As it lies in the store: a compression on the way would make the byte ranges meaningless.
        plain = {"Accept-Encoding": "identity"}
        if not self._have:
            return plain
        return {**plain, "Range": f"bytes={self._have}-", "If-Range": f'"{self.artifact.sha256}"'}

    @contextmanager
    def taking(self, answer: httpx.Response) -> Iterator[Callable[[bytes], None]]:
        """Where to put the pieces of this answer, which may be the rest of the file or all of it."""
        with self._part.open("ab" if answer.status_code == httpx.codes.PARTIAL_CONTENT else "wb") as file:

            def put(piece: bytes) -> None:
                file.write(piece)
                self._on_bytes(file.tell(), self.artifact.bytes)

            yield put

    def finish(self) -> Path:
        if self._have != self.artifact.bytes or _sha256(self._part) != self.artifact.sha256:
            self._part.unlink(missing_ok=True)
            raise DownloadDamaged(f"{self.artifact.name} does not match its sha256", remedy="download it again")
        self._part.replace(self.path)
        return self.path

    @property
    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0


class Upload:
    """A file of weights, announced by its hash, so that what arrives is what was read here."""

    def __init__(self, path: Path, on_bytes: OnBytes | None = None) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.sha256 = _sha256(path)
        self._on_bytes = on_bytes or _unheeded

    @property
    def headers(self) -> dict[str, str]:
        digest = base64.b64encode(bytes.fromhex(self.sha256)).decode()
        return {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(self.size),
            "Repr-Digest": f"sha-256=:{digest}:",
        }

    def chunks(self) -> Iterator[bytes]:
        sent = 0
        with self.path.open("rb") as file:
            while piece := file.read(CHUNK):
                yield piece
                sent += len(piece)
                self._on_bytes(sent, self.size)


def _unheeded(_done: int, _of: int) -> None:
    pass


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
