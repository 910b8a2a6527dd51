"""What the kernel says of processes: who lives, in which network, and what they are called."""

from __future__ import annotations

from pathlib import Path

from purlkit.processes import PROC


def living() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit() and _is_alive(entry)]


def _is_alive(entry: Path) -> bool:
    try:
        return (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def network_of(pid: int) -> int:
    try:
        return (PROC / str(pid) / "ns" / "net").stat().st_ino
    except OSError:
        return 0


def read(pid: int, what: str) -> str:
    """Of a process that has ended there is nothing to read."""
    try:
        return (PROC / str(pid) / what).read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
