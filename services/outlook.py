"""Where queued jobs stand in the line and what each waits for: a few questions, however many are asked about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, String, and_, bindparam, func, or_, select
from sqlalchemy.orm import Session

from services.database import now_ms
from services.states import LIVE, JobState
from services.tables import Attempt, Job


@dataclass(frozen=True, kw_only=True)
class Outlook:
    position: int | None = None  # 1 is next; none for a job that waits for nothing in the line
    reason: str | None = None  # why it does not move, for a person; none when it does, or has ended


MOVES = Outlook()

Place = tuple[int, str]  # sorts as the line does

# How far behind the first of the jobs the others are looked for.
NEARBY = 500

_priority, _id = bindparam("priority", type_=BigInteger), bindparam("id", type_=String)
_waiting = (Job.state == JobState.QUEUED, Job.priority == _priority)
_more_urgent = select(func.count()).where(Job.state == JobState.QUEUED, Job.priority > _priority).scalar_subquery()
_older = select(func.count()).where(*_waiting, Job.id < _id).scalar_subquery()
_AHEAD = select(_more_urgent + _older, now_ms())
_FROM_HERE = (
    select(Job.id)
    .where(Job.state == JobState.QUEUED, or_(Job.priority < _priority, and_(Job.priority == _priority, Job.id >= _id)))
    .order_by(Job.priority.desc(), Job.id)
    .limit(NEARBY)
)
_RUNNING = select(Job.id, Job.priority, Job.state).join(Attempt).where(Attempt.state.in_(LIVE))


def of(session: Session, jobs: Sequence[Job], live: Mapping[str, Attempt]) -> dict[str, Outlook]:
    """For each of the jobs, given their live attempts."""
    found = {job.id: _beside_the_line(job, live.get(job.id)) for job in jobs}
    line = sorted((job for job in jobs if found[job.id] is None), key=_place)
    if line:
        running = session.execute(_RUNNING).all()
        # Those that are starting are queued by state, and stand in the line no more.
        starting = {job_id: (-priority, job_id) for job_id, priority, state in running if state is JobState.QUEUED}
        positions, now = _positions(session, line, starting)
        for job, position in zip(line, positions, strict=True):
            found[job.id] = Outlook(position=position, reason=_why(job, position, len(running), now))
    return {job_id: outlook or MOVES for job_id, outlook in found.items()}


def _beside_the_line(job: Job, attempt: Attempt | None) -> Outlook | None:
    """None for a job that stands in the line."""
    if job.state is JobState.PAUSED:
        return Outlook(reason="paused: resume it to go on")
    if job.requested is not None:
        return Outlook(reason=f"{job.requested} was asked for: waiting for the attempt to answer, or its lease to end")
    if job.state is not JobState.QUEUED:
        return MOVES
    return None if attempt is None else Outlook(reason=f"attempt {attempt.number} is starting")


def _why(job: Job, position: int, running: int, now: int) -> str:
    if job.not_before > now:
        wait = math.ceil((job.not_before - now) / 1000)
        return f"retry in {wait} s after: {job.waiting_for or 'an earlier attempt'}"
    if position > 1:
        return f"waiting for {_jobs(position - 1)} ahead"
    return f"next in the queue; {_jobs(running)} running" if running else "next in the queue"


def _positions(session: Session, line: Sequence[Job], starting: Mapping[str, Place]) -> tuple[list[int], int]:
    """The first is counted up to, and those behind it are read from there. And what time it is."""
    first = _place(line[0])
    ahead, now = session.execute(_AHEAD, _named(line[0])).one()
    ahead -= sum(place < first for place in starting.values())
    ids = [line[0].id] if len(line) == 1 else session.scalars(_FROM_HERE, _named(line[0])).all()
    waiting = (job_id for job_id in ids if job_id not in starting)
    nearby = {job_id: ahead + nth for nth, job_id in enumerate(waiting, 1)}
    return [nearby.get(job.id) or _far(session, job, starting) for job in line], now


def _far(session: Session, job: Job, starting: Mapping[str, Place]) -> int:
    place = _place(job)
    return int(session.scalars(_AHEAD, _named(job)).one()) - sum(other < place for other in starting.values()) + 1


def _place(job: Job) -> Place:
    return -job.priority, job.id


def _named(job: Job) -> dict[str, object]:
    return {"priority": job.priority, "id": job.id}


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
