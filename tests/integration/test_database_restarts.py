"""PostgreSQL is killed in mid-job and started again: everybody waits, nobody dies, nothing that was said is lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from services.states import AttemptState, JobState
from services.stopping import Stop
from services.testing import FakeLauncher
from tests import postgres
from tests.bench import Bench
from tests.integration.over_http import assert_problem, serving
from tests.scene import Scene
from tests.waiting import DEADLINE_SECONDS, wait_until


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    """One of the test's own, which it may kill."""
    with postgres.running_server() as server:
        yield server


@pytest.fixture
def url(server: postgres.Server) -> str:
    with closing(postgres.Databases(server.url)) as databases:
        return databases.create()


def test_the_dispatchers_loop_goes_on_and_the_attempt_never_notices(
    server: postgres.Server, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with closing(Bench(tmp_path, url)) as bench, closing(Stop()) as stop:
        scene = Scene(bench, FakeLauncher(), PURL_POLL_SECONDS="0.05", PURL_MAX_RUNNING="2")
        worker = scene.start()
        worker.beat()
        worker.save("search", b"one episode")
        loop = threading.Thread(target=scene.dispatcher.run, args=(stop,))
        loop.start()

        server.kill()
        wait_until("the dispatcher has noticed", lambda: "the database does not answer" in caplog.text)
        with pytest.raises(OperationalError):
            worker.beat()
        server.start()

        assert worker.beat() == "continue"
        second = bench.submit()
        wait_until("the loop gives out jobs again", lambda: len(scene.launcher.launches) == 2)
        assert scene.latest().claim.job_id == second
        assert worker.succeed().state is JobState.SUCCEEDED
        assert worker.attempt.state is AttemptState.SUCCEEDED
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
        stop.ask()
        stop.ask()
        loop.join()


def test_the_api_says_that_it_is_away_and_is_back_by_itself(
    server: postgres.Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who may ask is known for a moment, which a busy machine needs to kill a server.
    monkeypatch.setattr("api.callers.KNOWN_SECONDS", DEADLINE_SECONDS)
    with serving(tmp_path, PURL_DATABASE_URL=url) as service:
        service.empty()
        job = service.submit()
        worker = service.claim()
        assert worker.beat().status_code == 200

        server.kill()
        refusals: list[httpx.Response] = [
            service.http.get(f"/jobs/{job['id']}"),
            worker.beat(),
            service.http.post("/jobs", json={}),
        ]
        server.start()

        for refusal in refusals[:2]:
            problem = assert_problem(refusal, 503, "database_unavailable")
            assert "try again" in problem["detail"]
            assert refusal.headers["retry-after"] == "1"
        assert service.http.get("/livez").status_code == 200
        assert refusals[2].status_code == 422, "what is wrong in itself needs no database to be refused"
        assert worker.beat().json()["command"] == "continue"
        assert worker.succeed().status_code == 200
        assert service.job(job["id"])["state"] == "succeeded"
