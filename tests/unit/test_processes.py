"""Sessions of real processes: found whole, ended whole, and never mistaken for another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from purlkit import processes
from tests.waiting import DEADLINE_SECONDS, wait_until

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"

GRANDCHILD_THAT_IGNORES_SIGTERM = """
import signal, subprocess, sys, time
stubborn = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(600)"
)
child = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
subprocess.Popen([sys.executable, "-c", child, stubborn])
time.sleep(600)
"""

DAEMON_IN_A_GROUP_OF_ITS_OWN = """
import os, signal, time
if os.fork() == 0:
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setpgid(0, 0)
        print("up", flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
"""

FORKS_WITHOUT_END = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("up", flush=True)
while True:
    if os.fork() == 0:
        time.sleep(0.5)
        os._exit(0)
    time.sleep(0.002)
"""

TIDY_LEADER = """
import signal, subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def leave(*_):
    helper.kill()
    helper.wait()
    print("tidy", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("up", flush=True)
time.sleep(600)
"""

FENCES_ITSELF = """
import subprocess, sys
from purlkit.processes import end_own_session
stubborn = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(600)"
)
helper = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
helper.stdout.readline()
print("up", flush=True)
sys.stdin.readline()
end_own_session()
"""


@contextmanager
def session(program: str) -> Iterator[subprocess.Popen[str]]:
    """A running session that is led by the program, once something in it said "up"."""
    leader = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert leader.stdout is not None
        assert leader.stdout.readline() == "up\n"
        yield leader
    finally:
        processes.end_session(leader.pid, grace_seconds=0)
        leader.communicate()


@pytest.mark.parametrize(
    ("program", "size"),
    [(SLEEPER, 1), (GRANDCHILD_THAT_IGNORES_SIGTERM, 3), (DAEMON_IN_A_GROUP_OF_ITS_OWN, 2)],
    ids=["leader alone", "grandchild", "daemon"],
)
def test_a_session_is_ended_to_its_last_process(program: str, size: int) -> None:
    with session(program) as leader:
        wait_until("all are up", lambda: len(processes.session_members(leader.pid)) == size)

        left = processes.end_session(leader.pid, grace_seconds=5)

        assert left == []
        assert processes.session_members(leader.pid) == []


def test_a_session_that_forks_all_the_while_is_ended_too() -> None:
    with session(FORKS_WITHOUT_END) as leader:
        processes.end_session(leader.pid, grace_seconds=0)

        assert processes.session_members(leader.pid) == []


@pytest.mark.parametrize("program", [GRANDCHILD_THAT_IGNORES_SIGTERM, DAEMON_IN_A_GROUP_OF_ITS_OWN])
def test_what_a_killed_leader_left_behind_is_ended(program: str) -> None:
    with session(program) as leader:
        leader.kill()
        leader.wait()
        assert processes.session_members(leader.pid) != []

        processes.end_session(leader.pid, grace_seconds=60)

        assert processes.session_members(leader.pid) == []


def test_a_leader_is_asked_before_anything_is_killed() -> None:
    with session(TIDY_LEADER) as leader:
        processes.end_session(leader.pid, grace_seconds=DEADLINE_SECONDS)

        assert leader.stdout is not None
        assert leader.stdout.readline() == "tidy\n"
        assert leader.wait() == 0


def test_a_stopped_leader_is_ended_after_its_grace() -> None:
    with session(SLEEPER) as leader:
        leader.send_signal(signal.SIGSTOP)
        os.waitpid(leader.pid, os.WUNTRACED)

        processes.end_session(leader.pid, grace_seconds=0.1)

        assert leader.wait() == -signal.SIGKILL


def test_a_process_ends_its_own_session_and_itself_last() -> None:
    with session(FENCES_ITSELF) as leader:
        assert len(processes.session_members(leader.pid)) == 2
        assert leader.stdin is not None
        leader.stdin.write("now\n")
        leader.stdin.flush()

        assert leader.wait(DEADLINE_SECONDS) == -signal.SIGKILL
        assert processes.session_members(leader.pid) == []


def test_other_sessions_are_left_alone() -> None:
    with session(SLEEPER) as bystander, session(SLEEPER) as leader:
        processes.end_session(leader.pid, grace_seconds=0)

        assert processes.session_members(bystander.pid) == [bystander.pid]


def test_nobody_ends_their_own_session_or_the_systems_by_mistake() -> None:
    for sid in (0, 1, os.getsid(0)):
        with pytest.raises(ValueError, match="neither is to be ended"):
            processes.end_session(sid, grace_seconds=0)


def test_a_later_owner_of_the_same_id_is_not_taken_for_the_process() -> None:
    with session(SLEEPER) as leader:
        started = processes.start_ticks(leader.pid)
        assert started is not None

        assert processes.is_alive(leader.pid, started)
        assert not processes.is_alive(leader.pid, started - 1)


def test_a_zombie_is_dead() -> None:
    with session(SLEEPER) as leader:
        started = processes.start_ticks(leader.pid)
        assert started is not None
        leader.kill()

        wait_until("it is seen to be dead", lambda: not processes.is_alive(leader.pid, started))

        assert processes.start_ticks(leader.pid) == started, "still in the table until its parent asks"
        assert processes.session_members(leader.pid) == []


def test_a_process_may_call_itself_anything() -> None:
    with session("open('/proc/self/comm', 'w').write(') R 1 (x')\n" + SLEEPER) as leader:
        assert processes.session_members(leader.pid) == [leader.pid]
