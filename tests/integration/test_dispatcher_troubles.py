"""What fails around a dispatcher costs what it concerns, and neither the rest of a pass nor the passes after it."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest

from services.artifacts import LocalStore
from services.artifacts.local import LocalWriter
from services.errors import StoreFull
from services.launch import Handle
from services.states import AttemptState, JobState
from services.stopping import Stop
from services.testing import FakeLauncher
from tests.bench import Bench
from tests.scene import Scene, handle_of
from tests.waiting import wait_until


def test_a_store_that_takes_no_log_keeps_no_job_from_its_rescue(bench: Bench) -> None:
    class Full(LocalStore):
        def begin(self) -> LocalWriter:
            raise StoreFull

    bench.store = Full(bench.settings.data_dir / "artifacts")
    scene = Scene(bench, FakeLauncher())
    worker = scene.start()
    log_path = scene.launcher.launches[-1].log_path
    log_path.parent.mkdir(parents=True)
    log_path.write_text("searching\n")

    scene.launcher.die(handle_of(worker))
    scene.dispatcher.tick()

    assert bench.state(worker) is JobState.QUEUED
    assert worker.attempt.handle is None


def test_a_log_that_cannot_be_read_keeps_no_job_from_its_rescue(bench: Bench) -> None:
    scene = Scene(bench, FakeLauncher())
    worker = scene.start()
    scene.launcher.launches[-1].log_path.mkdir(parents=True)

    scene.launcher.die(handle_of(worker))
    scene.dispatcher.tick()

    assert bench.state(worker) is JobState.QUEUED
    assert worker.attempt.handle is None


class RefusesToLaunch(FakeLauncher):
    """A machine that has no process left to give."""

    def launch(self, *args: object, **kwargs: object) -> Handle:  # noqa: ARG002
        raise BlockingIOError("fork: try again")


def test_a_process_that_cannot_be_started_gives_its_job_back(bench: Bench) -> None:
    scene = Scene(bench, RefusesToLaunch())
    job_id = bench.submit()

    with pytest.raises(ExceptionGroup):
        scene.dispatcher.tick()

    job = bench.job(job_id)
    assert job.state is JobState.QUEUED
    assert job.waiting_for == "its process could not be started: BlockingIOError"


class CannotEnd(FakeLauncher):
    """Everything but the first process can be ended."""

    def end(self, handle: Handle, *, at_once: bool = False) -> None:
        if handle["pid"] == 1:
            raise PermissionError("not yours")
        super().end(handle, at_once=at_once)


def test_one_attempt_that_cannot_be_ended_does_not_keep_others_waiting(bench: Bench) -> None:
    scene = Scene(bench, CannotEnd(), PURL_MAX_RUNNING="3")
    first, second = scene.start(), scene.start()
    for worker in (first, second):
        scene.launcher.die(handle_of(worker))
    third = bench.submit()

    with pytest.raises(ExceptionGroup) as caught:
        scene.dispatcher.tick()

    assert [type(error) for error in caught.value.exceptions] == [PermissionError]
    assert second.attempt.state is AttemptState.LOST
    assert scene.latest().claim.job_id == third


class FailsAtFirst(FakeLauncher):
    failures = 2

    def launch(self, env: Mapping[str, str], **kwargs: object) -> Handle:
        if self.failures:
            self.failures -= 1
            raise OSError("away for a moment")
        return super().launch(env, **kwargs)  # type: ignore[arg-type]


def test_the_loop_outlives_what_goes_wrong_in_a_pass(bench: Bench) -> None:
    scene = Scene(bench, FailsAtFirst(), PURL_POLL_SECONDS="0.01")
    for _ in range(3):
        bench.submit()
    stop = Stop()
    thread = threading.Thread(target=scene.dispatcher.run, args=(stop,))
    thread.start()

    wait_until("a later pass succeeds", lambda: scene.launcher.launches)

    stop.ask()
    stop.ask()
    thread.join()
    stop.close()
