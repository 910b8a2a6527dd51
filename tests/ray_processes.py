"""The processes of a Ray of our own, by what they are: all in the session of the attempt, or test, that began it."""

from __future__ import annotations

from pathlib import Path

from purlkit.processes import session_members

RUNNER = "ray::SingleAgentEnvRunner"
RAYLET = "raylet/raylet"
GCS = "gcs_server"


def pids(kind: str, *, session: int) -> list[int]:
    return sorted(pid for pid in session_members(session) if kind in _name(pid))


def _name(pid: int) -> str:
    """The program, or what it calls itself: the arguments of one may name the others."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""
