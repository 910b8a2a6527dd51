"""Two APIs and two dispatchers on one PostgreSQL: each job once, none beside itself, none lost when one is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from services.states import JobState
from services.tables import Attempt, Job
from tests.bench import Bench
from tests.integration.over_http import LEAST
from tests.waiting import wait_until

JOBS = 6
AT_ONCE = 3
SETTINGS = {
    "PURL_MAX_RUNNING": str(AT_ONCE),
    "PURL_POLL_SECONDS": "0.05",
    "PURL_DRAIN_SECONDS": "1",
    "PURL_LEASE_SECONDS": "60",  # a worker of a second may take half a minute to its first word
    "PURL_HEARTBEAT_SECONDS": "1",
}
# Of what takes seconds; but each of these jobs is a process that starts, on a machine that may be busy.
WAIT_SECONDS = 300


class Service:
    """Processes of one service, started by hand."""

    def __init__(self, bench: Bench, cleanup: ExitStack) -> None:
        self.bench = bench
        self._cleanup = cleanup
        bench.settings.datasets_dir.mkdir()

    def api(self) -> str:
        """Where it serves."""
        process = self._start("api", stdout=subprocess.PIPE, PURL_PORT="0")
        assert process.stdout is not None
        self._cleanup.callback(process.stdout.close)
        return process.stdout.readline().decode().strip().removeprefix("serving at ")

    def dispatcher(self, url: str) -> subprocess.Popen[bytes]:
        return self._start("tests.programs.dispatcher_of_quick_workers", PURL_PUBLIC_URL=url)

    def _start(self, module: str, *, stdout: int | None = None, **environ: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, **self.bench.environ, **SETTINGS, **environ},
            stdout=stdout,
        )
        self._cleanup.callback(process.wait, WAIT_SECONDS)
        self._cleanup.callback(process.terminate)
        return process

    def jobs(self) -> list[Job]:
        with self.bench.db.read() as session:
            return list(session.scalars(select(Job).order_by(Job.id)))

    def attempts(self) -> list[Attempt]:
        with self.bench.db.read() as session:
            return list(session.scalars(select(Attempt).order_by(Attempt.id)))


@pytest.fixture
def service(tmp_path: Path, postgresql_url: str) -> Iterator[Service]:
    with closing(Bench(tmp_path, postgresql_url)) as bench, ExitStack() as cleanup:
        yield Service(bench, cleanup)


def done(service: Service) -> int:
    return sum(job.state is JobState.SUCCEEDED for job in service.jobs())


def most_at_once(attempts: list[Attempt]) -> int:
    return max(
        sum(other.created_at <= one.created_at < (other.ended_at or 2**62) for other in attempts) for one in attempts
    )


def test_two_of_each_share_the_work_and_one_may_be_killed(service: Service) -> None:
    urls = [service.api(), service.api()]
    dispatchers = [service.dispatcher(url) for url in urls]

    for number in range(JOBS):
        answer = httpx.post(f"{urls[number % 2]}/jobs", json=LEAST, timeout=60, trust_env=False)
        assert answer.status_code == 202
    wait_until("some are done", lambda: done(service) >= 2, seconds=WAIT_SECONDS)
    dispatchers[0].kill()
    wait_until("all are", lambda: all(job.state.is_terminal for job in service.jobs()), seconds=WAIT_SECONDS)

    assert [job.state for job in service.jobs()] == [JobState.SUCCEEDED] * JOBS
    assert not (service.bench.settings.datasets_dir / "two-at-once").exists()
    assert most_at_once(service.attempts()) <= AT_ONCE
    # The dispatcher may have died between a claim and its start: that one is lost, but nobody's work with it.
    lost = [attempt for attempt in service.attempts() if attempt.state != "succeeded"]
    assert [attempt.started_at for attempt in lost] == [None] * len(lost)
    assert len(lost) <= 1


def test_a_dispatcher_that_is_stopped_leaves_its_attempts_to_the_other(service: Service) -> None:
    url = service.api()
    first = service.dispatcher(url)
    httpx.post(f"{url}/jobs", json=LEAST, timeout=60, trust_env=False).raise_for_status()
    wait_until("it has started one", lambda: any(one.handle for one in service.attempts()), seconds=WAIT_SECONDS)
    second = service.dispatcher(url)
    wait_until("the second one is there", lambda: len(service.bench.dispatchers()) == 2, seconds=WAIT_SECONDS)

    first.terminate()

    assert first.wait(WAIT_SECONDS) == 0
    wait_until("the job has ended", lambda: service.jobs()[0].state.is_terminal, seconds=WAIT_SECONDS)
    assert [attempt.state for attempt in service.attempts()] == ["succeeded"]
    assert second.poll() is None
