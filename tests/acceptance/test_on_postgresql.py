"""A whole job on PostgreSQL, which is killed in the middle of it, and an API that dies while it is away."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import postgres
from tests.acceptance.running import SMALL_JOB, RunningService, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    with postgres.running_server() as server:
        yield server


@pytest.fixture
def service(server: postgres.Server, tmp_path: Path) -> Iterator[RunningService]:
    """On an empty database that `migrate` has prepared: the service itself changes no tables on a server."""
    with closing(postgres.Databases(server.url)) as databases:
        url = databases.create(template="template0")
    command = [sys.executable, "-m", "services", "migrate"]
    environ = {**os.environ, "PURL_DATA_DIR": str(tmp_path / "data"), "PURL_DATABASE_URL": url}
    subprocess.run(command, env=environ, check=True)
    yield from serving(tmp_path / "data", PURL_DATABASE_URL=url)


# The parts of it are tested in seconds by tests/integration/test_database_restarts.py, and by
# tests/chaos/test_random_kills.py with dispatchers and workers that die as well.
@pytest.mark.long
def test_a_job_outlives_its_database_and_its_api(server: postgres.Server, service: RunningService) -> None:
    job_id = service.submit(SMALL_JOB)
    service.searching(job_id, episodes=3)
    killed = service.child("-m", "api")
    assert killed is not None

    server.kill()
    os.kill(killed, signal.SIGKILL)
    wait_until("another API waits", lambda: service.child("-m", "api") not in (None, killed))
    wait_until(
        "it says what for",
        lambda: "api WARNING PURL_DATABASE_URL leads to no database that answers" in service.log.read_text(),
    )
    server.start()
    job = service.ended(job_id)

    assert job["state"] == "succeeded", job["error"]
    assert [attempt["state"] for attempt in job["attempts"]] == ["succeeded"]
    assert [episode["index"] for episode in service.episodes(job_id)] == list(range(12))
    checkpoint = service.http.get(f"/jobs/{job_id}/checkpoint").content
    assert hashlib.sha256(checkpoint).hexdigest() == job["result"]["checkpoint"]["sha256"]
