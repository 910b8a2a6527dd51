"""Named points before and after every commit, fsync, rename and call to S3, where a process can be made to fail.

The program has no trace of them: a process that is to fail puts them around these primitives before it starts, so they
cost nothing where they are off. A point is called after the line of ours that reaches the primitive, and `inventory`
reads the same names off the sources: what is added there and reached by no test is noticed.
"""

from __future__ import annotations

import ast
import errno
import functools
import inspect
import linecache
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NoReturn

ROOT = Path(__file__).parent.parent.parent
ACTIONS = ("kill", "exception", "ENOSPC", "EIO")
SIDES = ("before", "after")
PACKAGES = ("services", "api")
S3_CALLS = ("put", "head", "get", "delete", "list")

# A transaction belongs to whoever opened it, and the sync of a folder to whoever needs it.
PASSED_OVER = ("services.database", "services.artifacts.local._sync_folder")
# Fakes of the tests; and what operators do beside the service and has tests of its own: setting up, backups, keys.
NOT_OURS = (
    "services.testing",
    "services.database",
    "services.backup",
    "services.artifacts.bucket",
    "services.key_commands",
)

Primitive = Literal["commit", "fsync", "rename", "S3"]


class Failpoints:
    """What is to happen where, as files in a folder: each is taken once, by whichever process gets there first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("armed", "reached"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def set(self, points: Sequence[str], side: str, action: str) -> None:
        for point in points:
            (self._folder / "armed" / _file_name(point, side)).write_text(action)

    def waiting(self) -> list[str]:
        """Those that nobody has come to yet."""
        return sorted(map(_name, (self._folder / "armed").iterdir()))

    def disarm(self) -> None:
        for path in (self._folder / "armed").iterdir():
            path.unlink(missing_ok=True)

    def reached(self) -> set[str]:
        return {_name(path).rpartition(" | ")[0] for path in (self._folder / "reached").iterdir()}

    def reach(self, point: str, side: str) -> str | None:
        """What is to happen here, if anything."""
        (self._folder / "reached" / _file_name(point, side)).touch()
        armed = self._folder / "armed" / _file_name(point, side)
        with suppress(FileNotFoundError):
            action = armed.read_text()
            armed.unlink()
            return action
        return None


def arm(failpoints: Failpoints) -> None:
    """Puts the points into this process, for its whole life."""
    import obstore
    from sqlalchemy.engine.default import DefaultDialect

    places: list[tuple[Any, str, Primitive]] = [
        (DefaultDialect, "do_commit", "commit"),
        (os, "fsync", "fsync"),
        (Path, "replace", "rename"),
        *((obstore, name, "S3") for name in S3_CALLS),
    ]
    for owner, name, primitive in places:
        setattr(owner, name, _around(getattr(owner, name), primitive, failpoints))


def _around(real: Callable[..., Any], primitive: Primitive, failpoints: Failpoints) -> Callable[..., Any]:
    @functools.wraps(real)
    def failing(*args: Any, **kwargs: Any) -> Any:
        point = _where()
        if point is None:
            return real(*args, **kwargs)
        _act(failpoints.reach(point, "before"), primitive, args)
        answer = real(*args, **kwargs)
        _act(failpoints.reach(point, "after"), primitive, args)
        return answer

    return failing


def _where() -> str | None:
    """The line of ours that got us here; None for what others commit and sync."""
    frame = inspect.currentframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        function = f"{module}.{frame.f_code.co_qualname}"
        if module.split(".")[0] in PACKAGES and not function.startswith(PASSED_OVER):
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            return f"{function.replace('.<locals>', '')}: {line}"
        frame = frame.f_back
    return None


def _act(action: str | None, primitive: Primitive, args: tuple[Any, ...]) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action is not None:
        _raise(action, primitive, args)


def _raise(action: str, primitive: Primitive, args: tuple[Any, ...]) -> NoReturn:
    """As the database, the kernel or S3 would say it."""
    if primitive == "S3":
        from obstore.exceptions import GenericError

        raise GenericError(f"planted: {action}")
    if action == "exception":
        raise RuntimeError("planted")  # what nobody has thought of
    if primitive != "commit":
        code = errno.ENOSPC if action == "ENOSPC" else errno.EIO
        raise OSError(code, os.strerror(code))
    if args[0].name == "sqlite":
        broken = sqlite3.OperationalError(f"planted: {action}")
        broken.sqlite_errorname = "SQLITE_FULL" if action == "ENOSPC" else "SQLITE_IOERR"
        raise broken
    import psycopg

    raise psycopg.errors.DiskFull("planted") if action == "ENOSPC" else psycopg.OperationalError(f"planted: {action}")


def inventory(*, s3: bool) -> set[str]:
    """Every point that the sources have; those of one store only."""
    here, other = "services.artifacts.s3", "services.artifacts.local"
    if not s3:
        here, other = other, here
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if not module.startswith((*NOT_OURS, other)) and "migrations" not in module:
                found |= set(_points(path, module))
    assert any(point.startswith(here) for point in found)
    return found


def _points(path: Path, module: str) -> Iterator[str]:
    lines = path.read_text().splitlines()

    def walk(node: ast.AST, within: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            inner = f"{within}.{child.name}" if named else within  # type: ignore[attr-defined]
            if isinstance(child, ast.Call) and _is_primitive(child) and not within.startswith(PASSED_OVER):
                yield f"{within}: {lines[child.lineno - 1].strip()}"
            yield from walk(child, inner)

    yield from walk(ast.parse(path.read_text()), module)


def _is_primitive(call: ast.Call) -> bool:
    said = ast.unparse(call.func)
    opens = said.endswith("db.write")
    s3 = said.startswith("obstore.") and said.removeprefix("obstore.") in S3_CALLS
    return opens or s3 or said in ("os.fsync", "_sync_folder", "self._path.replace")


def _file_name(point: str, side: str) -> str:
    return f"{point} | {side}".replace("/", "\\")


def _name(path: Path) -> str:
    return path.name.replace("\\", "/")


def main() -> int:
    print(*sorted(inventory(s3=False) | inventory(s3=True)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
