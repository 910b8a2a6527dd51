"""The dispatcher with real processes: the killed are noticed, what they left is ended, who comes next adopts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from purlkit import processes
from purlkit.results import LOG
from services import artifacts
from services.dispatcher import Dispatcher
from services.launch import Handle, LocalLauncher
from services.states import AttemptState, JobState
from services.tables import Attempt
from tests.bench import Bench
from tests.waiting import DEADLINE_SECONDS, wait_until

pytestmark = pytest.mark.usefixtures("nothing_left")


class Process:
    """`python -m services.dispatcher` by itself: nothing answers its attempts, which try on until they are ended."""

    def __init__(self, bench: Bench) -> None:
        given, self.parent = os.pipe()
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "services.dispatcher"],
            env={
                **os.environ,
                **bench.environ,
                "PURL_PUBLIC_URL": "http://127.0.0.1:9",
                "PURL_DRAIN_SECONDS": "0.5",
                "PURL_LEASE_SECONDS": "600",  # three processes start one after another: half a minute each, if need be
                "PURL_POLL_SECONDS": "0.05",
                "PURL_PARENT_FD": str(given),
            },
            pass_fds=(given,),
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(given)

    def works(self) -> None:
        """Returns when it has begun to look after the queue."""
        assert self.popen.stderr is not None
        assert any("looking after the queue" in line for line in self.popen.stderr)

    def ends(self) -> int:
        """Its exit status."""
        self.popen.communicate(timeout=DEADLINE_SECONDS)
        return self.popen.returncode

    def lose_parent(self) -> None:
        if self.parent >= 0:
            os.close(self.parent)
        self.parent = -1


@pytest.fixture
def start(bench: Bench) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(bench))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.ends()
        process.lose_parent()


@pytest.fixture
def nothing_left(bench: Bench) -> Iterator[None]:
    yield
    for attempt in all_attempts(bench):
        if attempt.handle is not None:
            LocalLauncher().end(attempt.handle, at_once=True)


def all_attempts(bench: Bench) -> list[Attempt]:
    with bench.db.read() as session:
        return list(session.scalars(select(Attempt).order_by(Attempt.number)))


def first_handle(bench: Bench) -> Handle:
    """Where the first attempt runs, as soon as it does."""
    return wait_until("an attempt is started", lambda: next((one.handle for one in all_attempts(bench)), None)) or {}


def log_path_of(bench: Bench, attempt: Attempt) -> Path:
    return bench.settings.data_dir / "logs" / f"{attempt.id}.log"


def dispatcher(bench: Bench) -> Dispatcher:
    """As a new process would begin: with nothing but the database."""
    return Dispatcher(bench.db, bench.settings, LocalLauncher(), bench.store, worker="tests.programs.stubborn_worker")


def start_stubborn_attempt(bench: Bench) -> Attempt:
    """An attempt of two processes: the worker, and a helper that ignores SIGTERM."""
    bench.submit()
    dispatcher(bench).tick()
    (attempt,) = all_attempts(bench)
    wait_until("it is up", log_path_of(bench, attempt).read_text)
    assert len(processes.session_members(first_handle(bench)["pid"])) == 2
    return attempt


def test_of_a_killed_attempt_no_process_is_left_and_the_log_is(bench: Bench) -> None:
    attempt = start_stubborn_attempt(bench)
    sid = first_handle(bench)["pid"]

    os.kill(sid, signal.SIGKILL)
    wait_until("the kernel has ended it", lambda: len(processes.session_members(sid)) == 1)
    dispatcher(bench).tick()

    assert all_attempts(bench)[0].state is AttemptState.LOST
    assert processes.session_members(sid) == []
    assert bench.job(attempt.job_id).state is JobState.QUEUED
    with bench.db.read() as session:
        kept = artifacts.find(session, attempt.job_id, LOG)
    assert bench.store.path(kept.sha256).read_text() == "the last words of a worker\n"


def test_a_new_dispatcher_leaves_a_running_attempt_alone(bench: Bench) -> None:
    start_stubborn_attempt(bench)
    sid = first_handle(bench)["pid"]

    dispatcher(bench).tick()

    assert len(processes.session_members(sid)) == 2
    assert len(all_attempts(bench)) == 1


def test_after_a_crash_of_everything_the_first_pass_gives_up_what_is_gone(bench: Bench) -> None:
    start_stubborn_attempt(bench)
    sid = first_handle(bench)["pid"]
    processes.end_session(sid, grace_seconds=0)

    dispatcher(bench).tick()

    assert all_attempts(bench)[0].state is AttemptState.LOST


@pytest.mark.parametrize(
    ("told_by", "database_url"),
    [("SIGTERM", "sqlite"), ("its parent's death", "postgresql")],
    indirect=["database_url"],
)
def test_a_stopping_dispatcher_ends_what_does_not_leave_and_exits_well(
    bench: Bench, start: Callable[[], Process], told_by: str
) -> None:
    job_id = bench.submit()
    process = start()
    sid = first_handle(bench)["pid"]

    if told_by == "SIGTERM":
        process.popen.terminate()
    else:
        process.lose_parent()

    assert process.ends() == 0
    assert processes.session_members(sid) == []
    (attempt,) = all_attempts(bench)
    assert attempt.state is AttemptState.DRAINED
    assert attempt.handle is None
    assert bench.job(job_id).state is JobState.QUEUED


# On SQLite tests/acceptance kills a dispatcher, too.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_killed_dispatcher_costs_no_attempt(bench: Bench, start: Callable[[], Process]) -> None:
    bench.submit()
    killed = start()
    handle = first_handle(bench)
    wait_until("the attempt says that nobody answers", log_path_of(bench, all_attempts(bench)[0]).read_text)
    killed.popen.kill()
    killed.ends()
    assert LocalLauncher().alive(handle)

    successor = start()
    successor.works()
    second = bench.submit(priority=9)
    successor.popen.terminate()

    assert successor.ends() == 0
    assert not LocalLauncher().alive(handle)
    (attempt,) = all_attempts(bench)
    assert attempt.state is AttemptState.DRAINED
    assert bench.job(second).state is JobState.QUEUED
