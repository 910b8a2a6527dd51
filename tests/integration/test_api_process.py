"""`python -m api` as a process: on the supervisor's socket, and what it does when that or anybody else ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update

from services import attempts
from services.database import Database
from services.settings import Settings
from services.tables import Artifact
from services.testing import database_in, settings_in
from tests.integration.over_http import LEAST, HttpWorker
from tests.waiting import wait_until

# Long enough for a start on a busy machine; only a hang takes so long.
PATIENCE = 60


@dataclass
class Stage:
    """A database, a listening socket and the write end of a pipe: what a supervisor holds."""

    folder: Path
    settings: Settings
    db: Database
    listening: socket.socket
    read_end: int
    write_end: int
    cleanup: ExitStack

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}"

    def start(self, **environ: str) -> subprocess.Popen[bytes]:
        settings = {
            "PURL_DATA_DIR": str(self.folder),
            "PURL_SOCKET_FD": str(self.listening.fileno()),
            "PURL_PARENT_FD": str(self.read_end),
            "PURL_POLL_SECONDS": "0.05",
            **environ,
        }
        with (self.folder / "api.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "api"],
                env={**os.environ, **settings},
                pass_fds=(self.listening.fileno(), self.read_end),
                stderr=log,
            )
        self.cleanup.callback(process.wait)
        self.cleanup.callback(process.kill)
        return process

    def get(self, path: str) -> httpx.Response:
        """The socket listens before the process does, so a caller waits and is not refused."""
        return httpx.get(self.url + path, timeout=PATIENCE, trust_env=False)

    def running_attempt(self) -> HttpWorker:
        assert httpx.post(f"{self.url}/jobs", json=LEAST, timeout=PATIENCE, trust_env=False).status_code == 202
        with self.db.write() as session:
            claim = attempts.claim(session, self.settings)
        assert claim is not None
        worker = HttpWorker(self.url, claim.attempt_id, claim.token)
        assert worker.beat().status_code == 200
        return worker

    def lose_the_supervisor(self) -> None:
        os.close(self.write_end)
        self.write_end = -1


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    read_end, write_end = os.pipe()
    with ExitStack() as cleanup, socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        with closing(database_in(tmp_path)) as db:
            made = Stage(tmp_path, settings_in(tmp_path), db, listening, read_end, write_end, cleanup)
            yield made
            cleanup.close()
        os.close(read_end)
        if made.write_end >= 0:
            os.close(made.write_end)


def test_a_killed_process_is_followed_by_another_on_the_same_port(stage: Stage) -> None:
    first = stage.start()
    assert stage.get("/livez").status_code == 200
    worker = stage.running_attempt()

    first.kill()
    first.wait()
    stage.start()

    assert stage.get("/readyz").status_code == 200
    assert worker.beat().json()["command"] == "continue", "the attempt never noticed"


def test_asked_to_stop_it_ends_its_streams_and_itself(stage: Stage) -> None:
    process = stage.start()
    worker = stage.running_attempt()
    (job,) = stage.get("/jobs").json()["data"]

    address, headers = stage.url + job["links"]["events"], {"Accept": "text/event-stream"}
    with httpx.stream("GET", address, headers=headers, timeout=PATIENCE, trust_env=False) as response:
        pieces = response.iter_raw()
        assert next(pieces)
        process.send_signal(signal.SIGTERM)
        rest = b"".join(pieces)  # raises if the connection breaks instead of ending

    assert process.wait(PATIENCE) == 0
    assert rest == b"" or rest.endswith(b"\n\n")
    assert worker.attempt_id not in (stage.folder / "api.log").read_text()
    assert "ERROR" not in (stage.folder / "api.log").read_text()


def test_without_its_supervisor_it_stays_until_a_live_attempt_has_saved_its_work_and_goes(stage: Stage) -> None:
    process = stage.start(PURL_DRAIN_SECONDS="600")
    worker = stage.running_attempt()

    stage.lose_the_supervisor()
    log = stage.folder / "api.log"
    wait_until("it has noticed", lambda: "the supervisor is gone" in log.read_text())
    saved, ended = worker.save("search", b"one more episode"), worker.succeed()

    assert (saved.status_code, ended.status_code) == (200, 200)
    assert process.wait(PATIENCE) == 0


def test_without_its_supervisor_it_does_not_wait_for_ever(stage: Stage) -> None:
    process = stage.start(PURL_DRAIN_SECONDS="0.2")
    stage.running_attempt()

    stage.lose_the_supervisor()

    assert process.wait(PATIENCE) == 0


def test_by_itself_it_says_where_it_serves(tmp_path: Path) -> None:
    database_in(tmp_path).close()
    environ = {**os.environ, "PURL_DATA_DIR": str(tmp_path), "PURL_PORT": "0"}
    with subprocess.Popen(
        [sys.executable, "-m", "api"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip().removeprefix("serving at ")
        answer = httpx.get(f"{url}/readyz", timeout=PATIENCE, trust_env=False)
        process.terminate()
        code = process.wait(PATIENCE)

    assert (answer.status_code, code) == (200, 0)


def test_what_keeps_it_from_starting_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    """As here what has no tables; `test_starting` has more of it, without a process."""
    ended = subprocess.run(
        [sys.executable, "-m", "api"],
        env={**os.environ, "PURL_DATA_DIR": str(tmp_path), "PURL_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("purl: ")
    assert "run python -m services migrate" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_half_a_gigabyte_passes_through_in_small_pieces(stage: Stage) -> None:
    """A sparse file with a made-up name: what is measured is the way and not the bytes."""
    size, sha256 = 2**29, "0" * 64
    process = stage.start()
    worker = stage.running_attempt()
    assert worker.succeed(b"a small one").status_code == 200
    path = stage.settings.artifacts / "blobs" / "00" / sha256
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(size)
    with stage.db.write() as session:
        session.execute(update(Artifact).values(sha256=sha256, bytes=size))
    (job,) = stage.get("/jobs").json()["data"]
    before = most_memory(process.pid)

    received = 0
    with httpx.stream("GET", stage.url + job["links"]["checkpoint"], timeout=PATIENCE, trust_env=False) as response:
        assert response.headers["content-length"] == str(size)
        for piece in response.iter_raw():
            received += len(piece)

    assert received == size
    assert most_memory(process.pid) - before < 64 * 2**20


def most_memory(pid: int) -> int:
    """The most that the process ever held, in bytes."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
