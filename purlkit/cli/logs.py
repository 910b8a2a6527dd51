"""`purl logs`: what a job's attempts print, while they print it."""

from __future__ import annotations

import json as jsonlib
import time
from typing import Any

import typer

from purlkit.client import NotFound, Problem
from purlkit.client.calls import log
from purlkit.errors import InvalidSpec

# Between two looks at a log that grows; the worker sends what it has every few seconds.
LOOK_SECONDS = 1.0


def show(service: Any, job_id: str, attempt: int | None, *, follow: bool, json: bool = False) -> None:
    """One attempt's log; of none that is named the latest's, and those of the attempts that follow it."""
    job = service.job(job_id)
    number = attempt or _latest(job)
    if not number and not follow:
        raise InvalidSpec("no attempt has begun", remedy="wait for one with -f")
    seen = 0
    while True:
        # In this order: what was said before the end is read after the end is known.
        job.refresh()
        latest = _latest(job)
        seen += _print(service, job_id, number, seen, json) if number else 0
        if attempt is None and number < latest and follow:
            number, seen = number + 1, 0
        elif not follow or job.ended or number < latest:
            return
        else:
            time.sleep(LOOK_SECONDS)


def _latest(job: Any) -> int:
    return max((one.number for one in job.record.attempts), default=0)


def _print(service: Any, job_id: str, number: int, seen: int, json: bool) -> int:
    """Whatever came behind the bytes that were seen: how many."""
    try:
        said: bytes = service.send(log(job_id, number, seen))
    except Problem as problem:
        if isinstance(problem, NotFound) or problem.status == 416:  # it has said nothing yet, or nothing new
            return 0
        raise
    if json:
        typer.echo(jsonlib.dumps({"attempt": number, "text": said.decode(errors="replace")}))
    else:
        typer.echo(said, nl=False)
    return len(said)
