"""The processes of a Ray of our own, by what they are: all in the session of the attempt, or test, that began it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from purlkit.processes import session_members

RUNNER = "ray::Player"
RAYLET = "raylet/raylet"
GCS = "gcs_server"


def pids(kind: str, *, session: int) -> list[int]:
    return sorted(pid for pid in session_members(session) if kind in _name(pid))


def started_by(pid: int) -> set[str]:
    """The programs that the process itself started; what those started is not among them."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    commands = [Path(f"/proc/{child}/cmdline").read_text().split("\0") for child in children]
    scripts = (next((word for word in command[:3] if word.endswith(".py")), command[0]) for command in commands)
    return {Path(script).name for script in scripts}


@contextmanager
def stopped(kind: str, *, session: int) -> Iterator[None]:
    """Stands still meanwhile: a search of milliseconds an episode waits for what takes seconds around it."""
    held = pids(kind, session=session)
    assert held, f"no process of session {session} is a {kind}"
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in held:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _name(pid: int) -> str:
    """The program, or what it calls itself: the arguments of one may name the others."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""
