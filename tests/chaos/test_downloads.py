"""The API is killed in the middle of downloads: each goes on by Range and ends with the same bytes."""

from __future__ import annotations

import hashlib
import random
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from purlkit.results import CHECKPOINT
from services import attempts
from services.database import Database
from services.settings import Settings
from tests.chaos import house
from tests.chaos.calls import Client, file_of
from tests.chaos.history import History
from tests.chaos.house import House, listen, wait_for_port
from tests.chaos.scale import tell, times
from tests.integration.over_http import HttpWorker

KILLS = times(100, short=5)
DOWNLOAD_SECONDS = 240  # it takes one, where nothing else wants the machine
SIZE = 24 * 2**20


def resumed(url: str, path: str, killed_at: int, kill: house.Target) -> tuple[bytes, int]:
    """The whole file, and in how many pieces it came; the API is killed once so many bytes are here."""
    got, pieces, etag = bytearray(), 0, ""
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    with httpx.Client(base_url=url, timeout=20, trust_env=False, verify=False) as http:
        while time.monotonic() < deadline:
            headers = {"Range": f"bytes={len(got)}-", "If-Range": etag} if got else {}
            try:
                with http.stream("GET", path, headers=headers) as answer:
                    assert answer.status_code == (206 if got else 200), answer.status_code
                    pieces, etag = pieces + 1, answer.headers["etag"]
                    for piece in answer.iter_raw(65_536):
                        got += piece
                        if pieces == 1 and len(got) >= killed_at:
                            killed_at = SIZE * 2
                            kill()
                return bytes(got), pieces
            except httpx.TransportError:
                time.sleep(0.02)
    raise AssertionError(f"{len(got)} bytes of {SIZE} came in {DOWNLOAD_SECONDS} s")


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_download_whose_api_is_killed_ends_with_the_same_bytes(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    chance = random.Random(0)
    data = chance.randbytes(SIZE)
    listening, url = listen()
    environ = {"PURL_DATA_DIR": str(tmp_path), "PURL_DATABASE_URL": request.getfixturevalue(f"{database}_url")}
    kept = House(tmp_path / "log")
    with closing(listening), closing(kept), closing(Client(url, History(file_of(tmp_path, "client")))) as client:
        kept.start("api", house.api, environ, listening)
        wait_for_port(url)
        job_id = client.submit("big")
        with closing(Database.open(environ["PURL_DATABASE_URL"])) as db, db.write() as session:
            claim = attempts.claim(session, Settings.from_environ(environ))
        assert claim is not None
        worker = HttpWorker(url, claim.attempt_id, claim.token)
        assert worker.succeed(data).status_code == 200
        path = f"/jobs/{job_id}/artifacts/{CHECKPOINT}"

        found = [resumed(url, path, chance.randrange(SIZE // 2), lambda: kept.kill("api")) for _ in range(KILLS)]

    broken = sum(pieces > 1 for _, pieces in found)
    tell(f"{KILLS} kills during downloads of {SIZE >> 20} MiB; {broken} broke off and were resumed")
    assert {hashlib.sha256(got).hexdigest() for got, _ in found} == {hashlib.sha256(data).hexdigest()}
    assert broken == KILLS
