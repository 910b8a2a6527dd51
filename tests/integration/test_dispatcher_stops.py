"""How a dispatcher drains: attempts are asked, waited for, and ended."""

from __future__ import annotations

import threading

from purlkit.results import Outcome
from services.states import AttemptState, JobState
from services.stopping import Stop
from services.testing import FakeLauncher
from tests.bench import Bench
from tests.scene import Scene, handle_of
from tests.waiting import wait_until


def test_a_drain_lets_attempts_save_their_work_and_leave(bench: Bench) -> None:
    scene = Scene(bench, FakeLauncher(), PURL_POLL_SECONDS="0.01", PURL_DRAIN_SECONDS="60")
    worker = scene.start()
    handle = handle_of(worker)
    bench.submit()
    stop, clean = Stop(), []
    thread = threading.Thread(target=lambda: clean.append(scene.dispatcher.drain(stop)))
    thread.start()

    wait_until("the heartbeat brings the request", lambda: worker.beat() == "drain")
    assert scene.launcher.asked_to_drain == [handle]
    worker.leave(Outcome.DRAINED)
    scene.launcher.die(handle)
    thread.join()
    stop.close()

    assert clean == [True]
    assert worker.attempt.state is AttemptState.DRAINED
    assert bench.state(worker) is JobState.QUEUED
    assert len(scene.launcher.launches) == 1, "no new claims"


def test_what_does_not_leave_in_time_is_ended_and_its_lease_released(bench: Bench) -> None:
    scene = Scene(bench, FakeLauncher(), PURL_POLL_SECONDS="0.01", PURL_DRAIN_SECONDS="0.05")
    worker = scene.start()
    worker.beat()
    handle = handle_of(worker)
    stop = Stop()

    assert scene.dispatcher.drain(stop)

    stop.close()
    assert scene.launcher.ended == [handle]
    assert worker.attempt.state is AttemptState.DRAINED
    scene.dispatcher.tick()
    assert scene.latest().claim.number == 2, "whoever comes next goes on at once"


def test_a_drain_in_a_hurry_does_not_wait(bench: Bench) -> None:
    scene = Scene(bench, FakeLauncher(), PURL_DRAIN_SECONDS="3600")
    worker = scene.start()
    stop = Stop()
    stop.ask()
    stop.ask()

    assert scene.dispatcher.drain(stop)

    stop.close()
    assert worker.attempt.state is AttemptState.DRAINED
