"""What was asked and acknowledged, as those who asked have it, and whether it keeps the promises.

The checker knows the promises of docs/reliability.md and nothing of the code: it reads answers and times alone. Times
are of the machine's monotonic clock, so those of several processes can be compared.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

# The moves of docs/reliability.md, written down once more: what the code takes for legal is what is in question.
MOVES = {
    "queued": {"running", "paused", "cancelled", "failed"},
    "running": {"queued", "paused", "succeeded", "failed", "cancelled"},
    "paused": {"queued", "cancelled"},
    "succeeded": set[str](),
    "failed": set[str](),
    "cancelled": set[str](),
}
ENDED = ("succeeded", "failed", "cancelled")
# Of an attempt, but for its last word: that may be repeated for ever, and a repeated one changes nothing.
WRITES = ("beat", "say", "log", "save", "stage")


@dataclass(frozen=True, kw_only=True)
class Op:
    """One acknowledged operation. `sent` is when the try began that was acknowledged."""

    what: str
    job: str = ""
    attempt: int = 0
    sent: float
    ended: float
    told: dict[str, Any] = field(default_factory=dict)


class History:
    """Of one process, kept as it happens: a line of a file for each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, op: Op) -> None:
        with self._lock, self._path.open("a") as file:
            file.write(json.dumps(asdict(op)) + "\n")


def read(folder: Path, files: str = "*.jsonl") -> list[Op]:
    """All of a folder, by the time of their acknowledgement. The last line of a killed process may be half."""
    ops = []
    for path in folder.glob(files):
        for line in path.read_text().splitlines():
            if line.endswith("}"):
                ops.append(Op(**json.loads(line)))
    return sorted(ops, key=lambda op: op.ended)


@dataclass
class Final:
    """What the service says of a job when all is over."""

    job: dict[str, Any]
    events: list[dict[str, Any]]
    checkpoint: str | None  # the sha256 of what was downloaded


def violations(ops: list[Op], finals: dict[str, Final]) -> list[str]:
    """Every promise that was not kept, as a sentence."""
    by_job: dict[str, list[Op]] = defaultdict(list)
    for op in ops:
        by_job[op.job].append(op)
    found = [*_keys(ops, finals)]
    for job_id, final in finals.items():
        mine = by_job[job_id]
        for rule in (_observed, _moved_legally, _fenced, _remembered, _told_once, _one_result, _cancelled):
            found += [f"{job_id}: {said}" for said in rule(mine, final)]
    return found


def _keys(ops: list[Op], finals: dict[str, Final]) -> Iterator[str]:
    """One job for each key, all of them here, and no other."""
    jobs: dict[str, set[str]] = defaultdict(set)
    for op in ops:
        if op.what == "submit":
            jobs[op.told["key"]].add(op.job)
    deleted = {op.job for op in ops if op.what == "delete"}
    for key, made in jobs.items():
        if len(made) > 1:
            yield f"the key {key} made {len(made)} jobs: {sorted(made)}"
    known = {job_id for made in jobs.values() for job_id in made}
    for job_id in sorted(known - deleted - finals.keys()):
        yield f"{job_id}: was acknowledged and is lost"
    for job_id in sorted(finals.keys() - known):
        yield f"{job_id}: nobody was told of it"
    for job_id in sorted(deleted & finals.keys()):
        yield f"{job_id}: was deleted and is there"


def _observed(ops: Iterable[Op], final: Final) -> Iterator[str]:
    """Ended means unchanged, and what was seen one after another can be reached one from another."""
    seen = [op for op in ops if op.what == "see"]
    seen.append(Op(what="see", sent=float("inf"), ended=float("inf"), told=final.job))
    for before, after in pairwise(seen):
        if after.sent < before.ended:
            continue  # at the same time: either may have come first
        was, now = before.told["state"], after.told["state"]
        if was in ENDED and _lasting(before.told) != _lasting(after.told):
            yield f"had ended {was} and changed afterwards"
        elif now not in _reachable(was):
            yield f"was seen {was} and then {now}"


def _lasting(job: dict[str, Any]) -> Any:
    """An attempt's log may come a moment after the end, and so may the last word on its processes."""
    return {name: job[name] for name in ("state", "result", "error", "finished_at", "spec", "created_at")}


def _reachable(state: str) -> set[str]:
    found, new = {state}, {state}
    while new:
        new = {after for before in new for after in MOVES[before]} - found
        found |= new
    return found


def _moved_legally(_: Iterable[Op], final: Final) -> Iterator[str]:
    state = None
    for event in (event for event in final.events if event["type"] == "state"):
        after = event["data"]["state"]
        if state is not None and after not in MOVES[state]:
            yield f"moved from {state} to {after}"
        state = after
    if state != final.job["state"]:
        yield f"is {final.job['state']}, and its events end with {state}"
    if state not in ENDED:
        yield f"never ended: it is {state} ({final.job['pending_reason']})"
    if [event["seq"] for event in final.events] != list(range(1, len(final.events) + 1)):
        yield "its events have gaps"


def _fenced(ops: Iterable[Op], _: Final) -> Iterator[str]:
    """Whatever an attempt says after its successor has been heard changes nothing, so it is not acknowledged."""
    heard: dict[int, float] = {}
    for op in ops:
        if op.what in WRITES:
            later = [number for number, at in heard.items() if number > op.attempt and op.sent > at]
            if later:
                yield f"attempt {op.attempt} was let write ({op.what}) after attempt {later[0]} had been heard"
            heard.setdefault(op.attempt, op.ended)


def _remembered(ops: Iterable[Op], _: Final) -> Iterator[str]:
    """Work that was acknowledged is what the next attempt begins with, or something later."""
    saved: list[Op] = []
    for op in ops:
        if op.what == "save":
            saved.append(op)
        elif op.what == "brief":
            best = max((one.told["step"] for one in saved if one.ended < op.sent), default=0)
            if op.told["step"] < best:
                yield f"attempt {op.attempt} began at step {op.told['step']}, and {best} had been saved"


def _told_once(ops: Iterable[Op], final: Final) -> Iterator[str]:
    """What an attempt was told has arrived is among the events, once and in order."""
    notes = [event["data"]["note"] for event in final.events if event["type"] == "note"]
    said = [note for op in ops if op.what == "say" for note in op.told["notes"]]
    for note in said:
        if notes.count(note) != 1:
            yield f"the event {note!r} is there {notes.count(note)} times"
    if len(set(notes)) != len(notes):
        yield "an event is there twice"


def _one_result(ops: Iterable[Op], final: Final) -> Iterator[str]:
    succeeded = {op.attempt: op.told["checkpoint"] for op in ops if op.what == "finish" and "checkpoint" in op.told}
    ends = [e for e in final.events if e["type"] == "state" and e["data"]["state"] in ENDED]
    if len(ends) > 1:
        yield f"ended {len(ends)} times"
    if len(succeeded) > 1:
        yield f"has the results of the attempts {sorted(succeeded)}"
    if succeeded and final.job["state"] != "succeeded" and not any(op.what == "cancel" for op in ops):
        yield f"a success was acknowledged, and it is {final.job['state']}"
    if final.job["state"] == "succeeded":
        promised = final.job["result"]["checkpoint"]["sha256"]
        if final.checkpoint != promised:
            yield f"its checkpoint is {final.checkpoint}, and its result says {promised}"
        if succeeded and promised not in succeeded.values():
            yield "its result is not the one that was acknowledged"


def _cancelled(ops: Iterable[Op], final: Final) -> Iterator[str]:
    if any(op.what == "cancel" for op in ops) and final.job["state"] != "cancelled":
        yield f"a cancel was accepted, and it is {final.job['state']}"
