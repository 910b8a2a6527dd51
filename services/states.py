"""What a job and an attempt may be, and the only moves between."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from services.errors import IllegalMove


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return not JOB_MOVES[self]


class AttemptState(StrEnum):
    LAUNCHING = "launching"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    DRAINED = "drained"
    PAUSED = "paused"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return not ATTEMPT_MOVES[self]


# A job fails from the queue when none of its attempts ever reported, each lost while it started, or when its spec
# can't be read any more: it never ran, and must not try for ever.
JOB_MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(JobState) - {JobState.RUNNING},
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

ENDED = tuple(state for state in JobState if state.is_terminal)

LIVE = (AttemptState.LAUNCHING, AttemptState.RUNNING)
ENDS = tuple(state for state in AttemptState if state not in LIVE)

ATTEMPT_MOVES: Mapping[AttemptState, frozenset[AttemptState]] = {
    AttemptState.LAUNCHING: frozenset({*ENDS, AttemptState.RUNNING}),
    AttemptState.RUNNING: frozenset(ENDS),
    **{end: frozenset() for end in ENDS},
}


def check_move(before: JobState | AttemptState, after: JobState | AttemptState) -> None:
    """Refuses what the tables above don't list."""
    allowed = JOB_MOVES[before] if isinstance(before, JobState) else ATTEMPT_MOVES[before]
    if after not in allowed:
        raise IllegalMove(f"what is {before} can't become {after}", remedy="look at its state and try again")
