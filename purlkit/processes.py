"""Sessions of processes, seen through Linux's /proc: who belongs to one, and how to end all of it.

An attempt runs in a session of its own (setsid), and whatever it starts stays in that session, Ray's processes
included: they take process groups of their own, but not sessions. So the session id is the one mark by which
every process of an attempt is found. The environment is not: a process that sets its title writes over the memory
that /proc/<pid>/environ shows, and Ray's agents do.

A session id can't be given to a new process while any member lives, not even after its leader died.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

PROC = Path("/proc")

# A zombie has ended and only waits for its parent to ask how; X is seen for a moment on the way out.
DEAD = "ZX"
# Between two looks. A look costs about a millisecond per hundred processes.
LOOK_SECONDS = 0.02
# A killed process is gone in milliseconds, unless the kernel holds it in an uninterruptible read: then nobody can help.
KILL_SECONDS = 10.0


class _Stat(NamedTuple):
    state: str
    session: int
    started: int


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None where there is no such process.

    Process id and start together name a process for good, since an id is used again and a start is not.
    """
    stat = _stat(pid)
    return stat.started if stat else None


def is_alive(pid: int, started: int) -> bool:
    """Whether that very process still runs. A zombie does not, and neither does a later owner of its id."""
    stat = _stat(pid)
    return stat is not None and stat.started == started and stat.state not in DEAD


def session_members(sid: int) -> list[int]:
    """Every process of the session that still runs."""
    return [pid for pid, stat in _all() if stat.session == sid and stat.state not in DEAD]


def end_session(sid: int, *, grace_seconds: float) -> list[int]:
    """End every process of the session; return those that even SIGKILL could not end, which is nobody as a rule.

    The leader gets SIGTERM and the grace to take its helpers down in order. What is left then, or what a dead
    leader left behind, has nothing to save and is killed.
    """
    if sid <= 1 or sid == os.getsid(0):
        raise ValueError(f"session {sid} is the system's or the caller's own: neither is to be ended from here")
    if _leads(sid):
        _signal(sid, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while _leads(sid) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
    return _kill_all_but(None, sid)


def end_own_session() -> NoReturn:
    """End the session that this process is in, itself last, so that nobody is left to end the others."""
    _kill_all_but(os.getpid(), os.getsid(0))
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlived its own SIGKILL")


def _leads(sid: int) -> bool:
    stat = _stat(sid)
    return stat is not None and stat.session == sid and stat.state not in DEAD


def _kill_all_but(spared: int | None, sid: int) -> list[int]:
    # Twice nobody: a process may fork and die behind the look, and its child be missed by it.
    deadline = time.monotonic() + KILL_SECONDS
    empty = 0
    while empty < 2:
        members = [pid for pid in session_members(sid) if pid != spared]
        empty = 0 if members else empty + 1
        for pid in members:
            _signal(pid, signal.SIGKILL)
        if members and time.monotonic() > deadline:
            return members
        if members:
            time.sleep(LOOK_SECONDS)
    return []


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _all() -> list[tuple[int, _Stat]]:
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return [(pid, stat) for pid in pids if (stat := _stat(pid)) is not None]


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything, blanks and parentheses too; the numbered fields follow the last one.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(state=fields[0], session=int(fields[3]), started=int(fields[19]))
