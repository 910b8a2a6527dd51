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
