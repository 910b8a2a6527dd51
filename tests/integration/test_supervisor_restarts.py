"""When the supervisor starts a child again, and when it gives up; with children that do little else but die."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from services import supervisor
from services.supervisor import Child, Supervisor
from services.testing import settings_in
from tests.waiting import wait_until

DIES = "raise SystemExit(3)"
# Dead by the time that it is to drain. One that is started for that needs longer than the drain and its end may take.
DIES_AND_IS_SLOW_TO_START = """
import pathlib, sys, time
if "--drain" not in sys.argv:
    raise SystemExit(3)
time.sleep(1)
pathlib.Path("drained").touch()
"""
LIVES = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(600)"


def child(name: str, program: str) -> Child:
    return Child(name, (sys.executable, "-c", program), env={}, fds=())


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A supervisor takes the process's signals for itself."""
    taken = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in taken]
    yield
    for number, handler in zip(taken, before, strict=True):
        signal.signal(number, handler)


def test_it_gives_up_when_a_child_dies_whenever_it_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SETTLED_SECONDS", 600.0)  # on a busy machine it takes half a minute to die
    settings = settings_in(tmp_path, PURL_PORT="0")
    dispatcher = child("dispatcher", LIVES)

    with closing(supervisor.listen(settings)) as listening:
        code = Supervisor(settings, listening, child("API", DIES), dispatcher).run()

    assert code == 1
    assert "the API dies whenever it starts: giving up" in caplog.text
    assert not dispatcher.running


def test_a_child_that_had_settled_is_started_again_at_once() -> None:
    settled = child("API", DIES)
    settled.start()
    settled.started_at -= supervisor.SETTLED_SECONDS + 1
    wait_until("it has died", lambda: not settled.running)

    settled.tend()

    assert settled.quick_deaths == 0
    assert settled.process is not None, "already the next one"
    settled.kill()


def test_a_child_that_dies_at_once_waits_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0  # on its clock no time passes, however long a busy machine takes to let it die
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: now))
    quick = child("API", DIES)
    waits = []
    for _ in range(3):
        quick.start()
        wait_until("it has died", lambda: not quick.running)
        quick.tend()
        waits.append(quick.not_before - now)

    assert quick.process is None, "not yet"
    assert waits == pytest.approx([0.2, 0.4, 0.8])


def test_a_dispatcher_that_is_started_to_drain_may_take_its_time_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervisor, "ENDING_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "SETTLED_SECONDS", 600.0)
    monkeypatch.setattr(supervisor, "MOST_QUICK_DEATHS", 1)
    settings = settings_in(tmp_path, PURL_PORT="0", PURL_DRAIN_SECONDS="0.1")

    with closing(supervisor.listen(settings)) as listening:
        Supervisor(settings, listening, child("API", LIVES), child("dispatcher", DIES_AND_IS_SLOW_TO_START)).run()

    assert (tmp_path / "drained").exists()
