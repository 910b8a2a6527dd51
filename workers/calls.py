"""One call to the service: what may become of it, and a file as what it sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx

from purlkit.results import Command

PIECE_BYTES = 256 * 1024


class Interrupted(Exception):
    """The service asked this attempt to stop: pause, cancel or drain."""

    def __init__(self, command: Command) -> None:
        super().__init__(command)
        self.command = command


class Superseded(Exception):
    """The token no longer holds: another attempt goes on in this one's place."""


class Unreachable(Exception):
    """The service has not answered once: its address is not one that works from here."""


class Refused(Exception):
    """The service answered with an error that trying again can't mend."""


class FileBody:
    """A file as a body: read anew at each try, and never held whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece


def checked(response: httpx.Response) -> httpx.Response:
    """The answer, unless it is a refusal."""
    if response.is_success:
        return response
    try:
        problem = response.json()
        code, detail = str(problem.get("code")), str(problem.get("detail"))
    except ValueError:
        code, detail = "unknown", response.text[:200]
    if response.status_code == 401 or code == "attempt_superseded":
        raise Superseded(detail)
    raise Refused(f"{response.request.method} {response.request.url.path}: {response.status_code} {code}: {detail}")
