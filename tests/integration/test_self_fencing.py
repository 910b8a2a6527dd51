"""An attempt that has lost its service or its token ends itself, and every process of its session with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from purlkit.processes import session_members
from services import attempts
from services.launch import LocalLauncher
from tests.integration.over_http import Service, serving
from tests.waiting import wait_until

# A third of it is for slow exits: enough for those of a busy machine, which may keep a process waiting for seconds.
LEASE_SECONDS = 18
START_SECONDS = 300


class Scene:
    """A service, and the process of an attempt that reports to it."""

    def __init__(self, folder: Path) -> None:
        self.up = ExitStack()
        lease = {"PURL_LEASE_SECONDS": str(LEASE_SECONDS), "PURL_HEARTBEAT_SECONDS": "0.5"}
        self.service: Service = self.up.enter_context(serving(folder, **lease))
        self.launcher = LocalLauncher()
        self.service.submit()
        with self.service.db.write() as session:
            claim = attempts.claim(session, self.service.settings)
        assert claim is not None
        self.attempt_id = claim.attempt_id
        env = {"PURL_URL": self.service.url, "PURL_ATTEMPT": claim.attempt_id, "PURL_TOKEN": claim.token}
        log = folder / "attempt.log"
        helper = "tests.programs.worker_with_a_helper"
        self.handle = self.launcher.launch(env, module=helper, name=claim.attempt_id, log_path=log)
        self.log = log
        wait_until("worker and helper are up", self.both_are_up, seconds=START_SECONDS)

    def both_are_up(self) -> bool:
        return "up" in self.log.read_text() and len(self.members) == 2

    @property
    def members(self) -> list[int]:
        return session_members(self.handle["pid"])


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.up.close()
    scene.launcher.end(scene.handle, at_once=True)


def test_without_its_service_it_is_gone_before_its_lease_is(scene: Scene) -> None:
    closing = time.monotonic()
    scene.up.close()
    silent_since = time.monotonic()

    wait_until("nothing of it is left", lambda: not scene.members)

    gone = time.monotonic()
    assert gone - closing > 0.5 * LEASE_SECONDS, "a service that is away for a moment costs nothing"
    assert gone - silent_since < LEASE_SECONDS
    assert f"of a {LEASE_SECONDS} s lease" in scene.log.read_text()


def test_given_up_it_is_gone_with_its_next_heartbeat(scene: Scene) -> None:
    with scene.service.db.write() as session:
        [attempt] = attempts.live(session)
        attempts.rescue(session, attempt, reason="given up by somebody who can't see its processes")

    wait_until("nothing of it is left", lambda: not scene.members)

    assert "another attempt has taken over" in scene.log.read_text()
