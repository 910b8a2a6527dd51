"""How a command speaks: tables for a reader, JSON for a program, and one exit code for each way to end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from purlkit.errors import PurlError

LAYERS_SHOWN = 30  # of a dry run; --json has them all


class Exit(IntEnum):
    """What `echo $?` says."""

    DONE = 0
    JOB_FAILED = 1  # the job ended without a result
    USAGE = 2  # the command line is wrong
    REFUSED = 3  # the service, or this program, does not accept what was asked
    UNREACHABLE = 4  # no service answers
    NOT_YET = 5  # the time given to wait is up
    INTERRUPTED = 130


_CODES = {"job_did_not_succeed": Exit.JOB_FAILED, "unreachable": Exit.UNREACHABLE, "not_yet": Exit.NOT_YET}


@contextmanager
def speaking() -> Iterator[None]:
    """Errors become one message on stderr and an exit code; a traceback is for bugs only."""
    try:
        yield
    except PurlError as problem:
        print(f"purl: {problem}", file=sys.stderr)
        raise SystemExit(_CODES.get(problem.code, Exit.REFUSED)) from None
    except KeyboardInterrupt:
        print("purl: interrupted; the job goes on", file=sys.stderr)
        raise SystemExit(Exit.INTERRUPTED) from None
    except BrokenPipeError:  # `purl list | head`
        sys.stderr.close()
        raise SystemExit(Exit.DONE) from None


def as_json(told: Any) -> None:
    """What the service said, whole."""
    print(json.dumps(_plain(told), indent=2, ensure_ascii=False))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(head):
        drawn.add_column(name, no_wrap=number == 0)  # ids and names are there to be copied
    for row in rows:
        drawn.add_row(*(escaped(cell) for cell in row))
    # A pipe has no width: what reads it wants whole lines.
    Console(width=None if sys.stdout.isatty() else 1000).print(drawn)


def facts(rows: Sequence[tuple[str, str | None]]) -> None:
    """A name and a value to a line; what has no value is left out."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        if value is not None:
            print(f"{name:{width}}  {printable(value)}")


def escaped(text: str) -> str:
    """As rich prints it literally."""
    from rich.markup import escape

    return escape(printable(text))


def printable(text: str) -> str:
    """Names and messages come from others: nothing of theirs may steer the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)


def percent(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}%}"


def size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _plain(told: Any) -> Any:
    if hasattr(told, "model_dump"):
        return told.model_dump(mode="json")
    if isinstance(told, (list, tuple)):
        return [_plain(one) for one in told]
    return told


def show_check(report: dict[str, Any]) -> None:
    """What a dry run found."""
    low, high = report["sparsity_range"] or (None, None)
    facts(
        [
            ("runnable", "yes" if report["runnable"] else "no"),
            ("layers", str(len(report["layers"])) if report["layers"] else None),
            ("prunable weights", f"{report['prunable_weights']:,}" if report["prunable_weights"] else None),
            ("reachable sparsity", None if low is None else f"{percent(low)} to {percent(high, 3)}"),
            ("steps of the search", None if report["steps"] is None else f"{report['steps']:,}"),
            ("memory of a runner", None if report["memory_bytes"] is None else f"about {size(report['memory_bytes'])}"),
        ]
    )
    if report["layers"]:
        shown = report["layers"][:LAYERS_SHOWN]
        rows = [(one["name"], one["kind"], "×".join(map(str, one["shape"])), f"{one['weights']:,}") for one in shown]
        more = len(report["layers"]) - len(shown)
        table(("layer", "kind", "shape", "weights"), [*rows, *([(f"and {more} more", "", "", "")] if more else [])])
    if report["costs"]:
        costs = [(one["phase"], f"{one['images']:,}", f"{one['device_hours']:.3g}") for one in report["costs"]]
        table(("phase", "training images", "device hours"), costs)
    for reason in report["reasons"]:
        print(f"  {reason['at'] or '/'}: {reason['message']}")
