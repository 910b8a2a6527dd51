"""LocalLauncher with real processes: started held back, found again by handle, ended to the last one."""

from __future__ import annotations

import ast
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from purlkit import processes
from services.launch import Handle, LocalLauncher
from tests.waiting import wait_until

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
# Once it is told to drain, the leader has its helper do one more thing, and leaves it behind.
DRAINS_WITH_A_HELPER = """
import signal, subprocess, sys, time
helper_code = (
    "import signal, sys, time;"
    "signal.signal(signal.SIGTERM, lambda *_: print('helper: asked to leave', flush=True));"
    "print('helper: up', flush=True);"
    "sys.stdin.readline(); print('helper: saved', flush=True); time.sleep(600)"
)
helper = subprocess.Popen([sys.executable, '-c', helper_code], stdin=subprocess.PIPE, text=True)
def drain(*_):
    print('save', file=helper.stdin, flush=True)
    sys.exit(print('drained', flush=True))
signal.signal(signal.SIGTERM, drain)
print('leader: up', flush=True)
time.sleep(600)
"""
LEAVES_A_HELPER = """
import signal, subprocess, sys
stubborn = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(600)"
)
subprocess.Popen([sys.executable, '-c', stubborn])
"""


class Workshop:
    """A launcher and the log of what it launched."""

    def __init__(self, folder: Path) -> None:
        self.launcher = LocalLauncher()
        self.log_path = folder / "logs" / "attempt.log"
        self.handles: list[Handle] = []

    def launch(self, code: str, **env: str) -> Handle:
        return self.launcher.launch(
            {"CODE": code, **env},
            module="tests.programs.run_code",
            name="a-job-a1",
            log_path=self.log_path,
            record=self.handles.append,
        )

    def wait_for(self, word: str) -> str:
        return wait_until(f"the log says {word}", lambda: self.log if word in self.log else "")

    @property
    def log(self) -> str:
        return self.log_path.read_text()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    shop = Workshop(tmp_path)
    yield shop
    for handle in shop.handles:
        shop.launcher.end(handle)


def test_a_launched_process_leads_a_session_and_writes_to_its_log(shop: Workshop) -> None:
    handle = shop.launch(SLEEPS)
    shop.wait_for("up")

    assert shop.launcher.alive(handle)
    assert processes.session_members(handle["pid"]) == [handle["pid"]]


def test_a_second_launch_adds_to_the_log(shop: Workshop) -> None:
    shop.launch("print('first')")
    shop.wait_for("first")
    shop.launch("print('second')")

    assert shop.wait_for("second").splitlines() == ["first", "second"]


def test_nothing_runs_before_the_handle_is_on_record(shop: Workshop) -> None:
    def refuse(handle: Handle) -> None:
        shop.handles.append(handle)
        raise ConnectionError("the database is away")

    with pytest.raises(ConnectionError):
        shop.launcher.launch(
            {"CODE": "print('ran')"},
            module="tests.programs.run_code",
            name="a-job-a1",
            log_path=shop.log_path,
            record=refuse,
        )

    wait_until("the held back process leaves", lambda: not shop.launcher.alive(shop.handles[0]))
    assert shop.log == ""


def test_a_process_gets_the_settings_it_is_given_and_none_of_the_services(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURL_DATABASE_URL", "postgresql://purl:secret@db/purl")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("WORKER_AWS_ACCESS_KEY_ID", "may read data sets")
    monkeypatch.setenv("LANG", "C.UTF-8")

    shop.launch("import os; print(dict(os.environ), 'end')", PURL_URL="http://127.0.0.1:1")

    environment = ast.literal_eval(shop.wait_for("end").removesuffix(" end\n"))
    assert {name for name in environment if name.startswith("PURL_")} == {"PURL_URL", "PURL_SCRATCH_DIR"}
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert environment["AWS_ACCESS_KEY_ID"] == "may read data sets"
    assert environment["LANG"] == "C.UTF-8"


def test_a_process_inherits_no_descriptor_but_its_own_three(shop: Workshop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        os.set_inheritable(listening.fileno(), True)

        # Listing the folder opens it: the fourth one.
        shop.launch("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))), 'end')")

        assert shop.wait_for("end") == "[0, 1, 2, 3] end\n"


def test_draining_is_asked_of_the_leader_alone(shop: Workshop) -> None:
    """The same signal would end its helpers in the middle of what it still wants of them."""
    handle = shop.launch(DRAINS_WITH_A_HELPER)
    shop.wait_for("leader: up")
    shop.wait_for("helper: up")

    shop.launcher.ask_to_drain(handle)

    shop.wait_for("drained")
    # A signal that had been sent to both would have been told before this: it was on its way first.
    shop.wait_for("helper: saved")
    assert "helper: asked to leave" not in shop.log
    wait_until("the leader has left", lambda: not shop.launcher.alive(handle))
    assert len(processes.session_members(handle["pid"])) == 1, "the helper lives"


def test_ending_takes_what_a_dead_leader_left_behind(shop: Workshop) -> None:
    handle = shop.launch(LEAVES_A_HELPER)
    shop.wait_for("up")
    wait_until("the leader has left", lambda: not shop.launcher.alive(handle))
    assert processes.session_members(handle["pid"]) != []

    shop.launcher.end(handle)
    shop.launcher.end(handle)

    assert processes.session_members(handle["pid"]) == []


def test_what_a_killed_process_left_on_the_disk_goes_with_it(shop: Workshop) -> None:
    leaves_a_file = "import os, pathlib; pathlib.Path(os.environ['PURL_SCRATCH_DIR'], 'left').touch(); " + SLEEPS
    handle = shop.launch(leaves_a_file)
    shop.wait_for("up")
    scratch = Path(handle["scratch"])
    assert (scratch / "left").exists()

    os.kill(handle["pid"], signal.SIGKILL)
    shop.launcher.end(handle)

    assert not scratch.exists()


def test_the_folder_of_a_process_has_a_path_that_is_short_enough_for_sockets(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far_down = tmp_path / ("deep" * 20)
    far_down.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(far_down))

    handle = shop.launch("print('up')")

    assert len(handle["scratch"]) <= 107 - 66
    assert Path(handle["scratch"]).is_dir()


def test_ended_children_do_not_pile_up_as_zombies(shop: Workshop) -> None:
    handle = shop.launch("pass")

    wait_until("it has left", lambda: not shop.launcher.alive(handle))

    assert processes.start_ticks(handle["pid"]) is None


def test_another_launcher_finds_and_ends_the_same_process(shop: Workshop) -> None:
    handle = shop.launch(SLEEPS)
    shop.wait_for("up")
    successor = LocalLauncher()

    assert successor.alive(handle)
    successor.end(handle)

    assert not successor.alive(handle)


def test_a_later_owner_of_the_id_is_left_alone(shop: Workshop) -> None:
    handle = shop.launch(SLEEPS)
    shop.wait_for("up")
    earlier = {**handle, "started": handle["started"] - 1}

    assert not shop.launcher.alive(earlier)
    shop.launcher.ask_to_drain(earlier)
    shop.launcher.end(earlier)

    assert shop.launcher.alive(handle)


@pytest.mark.parametrize(
    ("elsewhere", "alive"),
    [({"host": "another"}, True), ({"namespace": "pid:[1]"}, True), ({"boot": "before"}, False)],
    ids=["another host", "another container", "before a reboot"],
)
def test_only_the_lease_tells_of_a_process_that_cannot_be_seen(
    shop: Workshop, elsewhere: dict[str, str], alive: bool
) -> None:
    handle = shop.launch(SLEEPS)
    shop.wait_for("up")

    assert shop.launcher.alive({**handle, **elsewhere}) is alive
    shop.launcher.end({**handle, **elsewhere})

    assert shop.launcher.alive(handle)
