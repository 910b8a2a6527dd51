"""What was asked and acknowledged, as those who asked have it, and whether it keeps the promises.

The checker knows the promises of docs/reliability.md and nothing of the code: it reads answers and times alone. Times
are of the machine's monotonic clock, so those of several processes can be compared.
"""

from __future__ import annotations

import json
import math
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
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
# An attempt that was answered in any of these ways is there, so those before it have been given up.
HEARD = (*WRITES, "brief", "finish")


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
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
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
    for job_id, final in finals.items():
        by_job[job_id].append(Op(what="see", job=job_id, sent=math.inf, ended=math.inf, told=final.job))
    found = [*_keys(ops, finals)]
    for job_id, mine in by_job.items():
        # Of a job that was deleted there is what was seen of it before.
        for rule in (_ended_for_ever, _fenced, _remembered, _read_your_write):
            found += [f"{job_id}: {said}" for said in rule(mine)]
    for job_id, final in finals.items():
        for judge in (_moved_legally, _told_once, _one_result):
            found += [f"{job_id}: {said}" for said in judge(by_job[job_id], final)]
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


def _seen(ops: Iterable[Op]) -> list[Op]:
    return [op for op in ops if op.what == "see"]


def _ended_for_ever(ops: list[Op]) -> Iterator[str]:
    """Ended means unchanged. Between states that are no end every one can be reached from every other."""
    ends = [op for op in _seen(ops) if op.told["state"] in ENDED]
    if not ends:
        return
    first = min(ends, key=lambda op: op.ended)
    # What ends say of it never differs, so it does not matter which of two that overlap came first.
    if any(_lasting(op.told) != _lasting(first.told) for op in ends):
        yield f"had ended {first.told['state']} and changed afterwards"
    for op in _seen(ops):
        if op.sent > first.ended and op.told["state"] not in ENDED:
            yield f"was seen {first.told['state']} and then {op.told['state']}"


def _lasting(job: dict[str, Any]) -> Any:
    """An attempt's log may come a moment after the end, and so may the last word on its processes."""
    return {name: job[name] for name in ("state", "result", "error", "finished_at", "spec", "created_at")}


def _read_your_write(ops: list[Op]) -> Iterator[str]:
    """What was accepted shows in whatever is asked for afterwards."""
    asked = [op for op in ops if op.what in ("cancel", "pause") or (op.what == "finish" and "checkpoint" in op.told)]
    taken_back = [op for op in ops if op.what == "resume"]
    for write in asked:
        for op in _seen(ops):
            resumed = any(back.ended > write.sent and back.sent < op.ended for back in taken_back)
            excused = write.what == "pause" and resumed
            if op.sent > write.ended and not excused and not _shows(write.what, op.told):
                yield f"a {write.what} was accepted, and then it was seen {op.told['state']}"
                break


def _shows(write: str, job: dict[str, Any]) -> bool:
    if write == "cancel":
        return job["state"] == "cancelled" or job["requested"] == "cancel"
    if write == "pause":
        return job["state"] not in ("queued", "running") or job["requested"] is not None
    return bool(job["state"] == "succeeded")


def _moved_legally(_: list[Op], final: Final) -> Iterator[str]:
    state = None
    for event in (event for event in final.events if event["type"] == "state"):
        after = event["data"]["state"]
        if after not in (MOVES[state] if state else {"queued"}):
            yield f"moved from {state} to {after}"
        state = after
    if state != final.job["state"]:
        yield f"is {final.job['state']}, and its events end with {state}"
    if state not in ENDED:
        yield f"never ended: it is {state} ({final.job['pending_reason']})"
    if [event["seq"] for event in final.events] != list(range(1, len(final.events) + 1)):
        yield "its events have gaps"


def _fenced(ops: list[Op]) -> Iterator[str]:
    """What an attempt says changes nothing, so it is not acknowledged, once it is known to have been given up: by its
    successor, by its own last word, or by the end of its job.
    """
    heard: dict[int, float] = {}
    said_all: dict[int, float] = {}
    job_ended = math.inf
    for op in ops:
        if op.what in WRITES:
            let = f"attempt {op.attempt} was let write ({op.what})"
            later = [number for number, at in heard.items() if number > op.attempt and op.sent > at]
            if later:
                yield f"{let} after attempt {later[0]} had been heard"
            elif op.sent > said_all.get(op.attempt, math.inf):
                yield f"{let} after its own last word"
            elif op.sent > job_ended:
                yield f"{let} after its job had ended"
        if op.what in HEARD:
            heard.setdefault(op.attempt, op.ended)
        if op.what == "finish":
            said_all.setdefault(op.attempt, op.ended)
        if op.what == "see" and op.told["state"] in ENDED:
            job_ended = min(job_ended, op.ended)


def _remembered(ops: list[Op]) -> Iterator[str]:
    """Work that was acknowledged is what the next attempt begins with, or something later."""
    saved: list[Op] = []
    for op in ops:
        if op.what == "save":
            saved.append(op)
        elif op.what == "brief":
            best = max((one.told["step"] for one in saved if one.ended < op.sent), default=0)
            if op.told["step"] < best:
                yield f"attempt {op.attempt} began at step {op.told['step']}, and {best} had been saved"


def _told_once(ops: list[Op], final: Final) -> Iterator[str]:
    """What an attempt was told has arrived is among the events, once and in order."""
    # A real worker's notes are of another kind, and nobody wrote down that it said them.
    notes = [e["data"]["note"] for e in final.events if e["type"] == "note" and "note" in e["data"]]
    said: dict[int, list[str]] = defaultdict(list)
    for op in ops:
        if op.what == "say":
            said[op.attempt] += op.told["notes"]
    times, places = Counter(notes), {note: place for place, note in enumerate(notes)}
    for attempt, told in said.items():
        for note in told:
            if times[note] != 1:
                yield f"the event {note!r} is there {times[note]} times"
        there = [places[note] for note in told if note in places]
        if there != sorted(there):
            yield f"the events of attempt {attempt} are not in their order"
    if len(places) != len(notes):
        yield "an event is there twice"


def _one_result(ops: list[Op], final: Final) -> Iterator[str]:
    accepted = {(op.attempt, op.told["checkpoint"]) for op in ops if op.what == "finish" and "checkpoint" in op.told}
    ends = [e for e in final.events if e["type"] == "state" and e["data"]["state"] in ENDED]
    state, result, error = (final.job[name] for name in ("state", "result", "error"))
    if len(ends) > 1:
        yield f"ended {len(ends)} times"
    if len(accepted) > 1:
        yield f"has the results of the attempts {sorted(attempt for attempt, _ in accepted)}"
    if (result is not None, error is not None) != (state == "succeeded", state in ("failed", "cancelled")):
        yield f"is {state}, with{'' if result else 'out'} a result and with{'' if error else 'out'} an error"
    if sum(attempt["state"] == "succeeded" for attempt in final.job["attempts"]) > 1:
        yield "more than one of its attempts has succeeded"
    if state == "succeeded" and result is not None:
        promised = result["checkpoint"]["sha256"]
        if final.checkpoint != promised:
            yield f"its checkpoint is {final.checkpoint}, and its result says {promised}"
        if accepted and promised not in {checkpoint for _, checkpoint in accepted}:
            yield "its result is not the one that was acknowledged"
