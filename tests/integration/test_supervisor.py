"""`python -m services` as it is: one port through every death of a child, and nothing left when it goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from purlkit.processes import session_members
from services.database import Database
from services.states import AttemptState
from services.tables import Attempt
from services.testing import settings_in
from tests.acceptance.running import LONGER_JOB, PATIENT, SMALL_JOB, START_SECONDS, STOP_SECONDS, RunningService
from tests.waiting import wait_until

API = ("-m", "api")
DISPATCHER = ("-m", "services.dispatcher")

Start = Callable[..., RunningService]


def end(service: RunningService) -> None:
    if service.process.poll() is None:
        service.stop()
    service.http.close()
    wait_until("all have gone", lambda: not service.left_over())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One that outlives what is done to it, until it is killed whole."""
    service = RunningService(tmp_path_factory.mktemp("supervisor") / "data", **PATIENT)
    yield service
    end(service)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a service of the test's own."""
    started: list[RunningService] = []

    def start(**env: str) -> RunningService:
        started.append(RunningService(tmp_path / "data", **PATIENT, **env))
        return started[-1]

    yield start
    for service in started:
        end(service)


def child_of(service: RunningService, words: tuple[str, ...]) -> int:
    return wait_until(f"{words} runs", lambda: service.child(*words)) or 0


def attempt_of(service: RunningService) -> int:
    (attempt,) = wait_until("an attempt runs", service.attempt_pids, seconds=START_SECONDS)
    return attempt


def run_services(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """One that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "services", *arguments],
        env={**os.environ, "PURL_DATA_DIR": str(folder), "PURL_PORT": "0", **env},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def test_a_killed_api_is_back_on_the_same_port(service: RunningService) -> None:
    killed = child_of(service, API)

    os.kill(killed, signal.SIGKILL)

    wait_until("another one runs", lambda: service.child(*API) not in (None, killed))
    # At once: a request waits at the socket until the new one takes it, instead of being refused.
    assert service.http.get("/livez").status_code == 200


def test_a_killed_dispatcher_is_back(service: RunningService) -> None:
    killed = child_of(service, DISPATCHER)

    os.kill(killed, signal.SIGKILL)

    wait_until("another one runs", lambda: service.child(*DISPATCHER) not in (None, killed))


def test_ctrl_c_on_a_terminal_reaches_the_supervisor_alone(service: RunningService) -> None:
    groups = [os.getpgid(child_of(service, words)) for words in (API, DISPATCHER)]

    assert os.getpgid(service.process.pid) not in groups


def test_a_second_service_on_the_same_folder_is_refused(service: RunningService) -> None:
    second = run_services(service.data_dir)

    assert second.returncode == 1
    assert second.stderr == (
        "purl: PURL_DATA_DIR is in use by another service, or by one that is still stopping: "
        "stop that one first, or choose another folder\n"
    )


def test_a_port_that_is_taken_is_named_with_the_remedy(service: RunningService, tmp_path: Path) -> None:
    port = str(service.http.base_url.port)

    second = run_services(tmp_path, PURL_PORT=port)

    assert second.returncode == 1
    assert second.stderr.startswith("purl: PURL_PORT can't be had")
    assert second.stderr.endswith("choose another, or 0 for any free one\n")


@dataclass
class TakenOver:
    """A service in which everything was killed at once, and another one that was started in its place."""

    service: RunningService
    job_id: str
    lost: int  # the attempt that it killed


@pytest.fixture(scope="module")
def taken_over(service: RunningService) -> Iterator[TakenOver]:
    """From here on there is nothing left of the first one."""
    job_id = service.submit(SMALL_JOB)
    attempt = attempt_of(service)
    for pid in (service.process.pid, child_of(service, API), child_of(service, DISPATCHER), attempt):
        with suppress(ProcessLookupError):  # a child may be faster: it leaves when it sees its supervisor gone
            os.kill(pid, signal.SIGKILL)
    service.process.wait()
    wait_until("they are gone", lambda: not service.left_over())
    # The next dispatcher may start within its drain, too.
    successor = RunningService(service.data_dir, **PATIENT, PURL_DRAIN_SECONDS="60")
    yield TakenOver(successor, job_id, attempt)
    end(successor)


def test_a_new_service_takes_over_what_a_crash_of_everything_left(taken_over: TakenOver) -> None:
    service = taken_over.service

    def state_of_the_first() -> str:
        return str(service.job(taken_over.job_id)["attempts"][0]["state"])

    wait_until("the attempt is given up", lambda: state_of_the_first() == "lost", seconds=START_SECONDS)
    assert session_members(taken_over.lost) == []


def test_it_ends_attempts_though_its_dispatcher_has_just_died(taken_over: TakenOver) -> None:
    """Told to stop as by a terminal that was closed; how Ctrl-C stops it is seen in tests/acceptance."""
    service = taken_over.service
    wait_until("another runs", lambda: service.attempt_pids() not in ([], [taken_over.lost]), seconds=START_SECONDS)
    attempt = attempt_of(service)
    os.kill(child_of(service, DISPATCHER), signal.SIGKILL)

    assert service.stop(signal.SIGHUP) == 0

    assert session_members(attempt) == []
    assert service.left_over() == []


def test_a_second_ctrl_c_does_not_wait_for_an_attempt_that_hangs(start: Start) -> None:
    service = start(PURL_DRAIN_SECONDS="3600")
    service.submit(SMALL_JOB)
    attempt = attempt_of(service)
    os.kill(attempt, signal.SIGSTOP)

    service.process.send_signal(signal.SIGINT)
    wait_until("it has begun to stop", lambda: "stopping" in service.log.read_text())

    assert service.stop(signal.SIGINT) == 0
    assert session_members(attempt) == []
    assert service.left_over() == []


def test_without_their_supervisor_the_children_drain_and_leave(start: Start) -> None:
    service = start(PURL_DRAIN_SECONDS="240")
    job_id = service.submit(LONGER_JOB)
    attempt = attempt_of(service)
    wait_until("it has reported", lambda: service.job(job_id)["state"] == "running", seconds=START_SECONDS)

    service.process.kill()
    service.process.wait()

    def gone() -> bool:
        return not service.left_over() and not session_members(attempt)

    wait_until("all have gone", gone, seconds=STOP_SECONDS)
    with closing(Database.open(settings_in(service.data_dir).database_url)) as db, db.read() as session:
        (row,) = session.scalars(select(Attempt))
    assert row.state is AttemptState.DRAINED
    assert row.finish_sha256 is not None, "by its own word: the API outlived the supervisor for as long as it took"


def test_tables_of_another_version_are_left_for_migrate(tmp_path: Path) -> None:
    with closing(Database.open(settings_in(tmp_path).database_url)) as db, db.write() as session:
        session.connection().exec_driver_sql("CREATE TABLE somebodys (id INTEGER)")

    refused = run_services(tmp_path)
    assert refused.returncode == 1
    assert "run python -m services migrate" in refused.stderr

    assert run_services(tmp_path, "migrate").returncode == 0
