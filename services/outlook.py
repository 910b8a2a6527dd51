"""Where queued jobs stand in the line and what each waits for: a few questions, however many are asked about.

The line is that of services.scheduling. Who is to start later, or could never start, does not stand in it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Double, String, and_, bindparam, func, or_, select
from sqlalchemy.orm import Session

from services.scheduling import BOUNDLESS, ROUNDING, TAKING, Room, Taking, given_out, takes
from services.states import JobState
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
_standing = (
    Job.state == JobState.QUEUED,
    Job.not_before <= bindparam("now", type_=BigInteger),
    Job.cpus <= bindparam("cpus", type_=Double),
    Job.gpus <= bindparam("gpus", type_=Double),
)
_more_urgent = select(func.count()).where(*_standing, Job.priority > _priority).scalar_subquery()
_older = select(func.count()).where(*_standing, Job.priority == _priority, Job.id < _id).scalar_subquery()
_AHEAD = select(_more_urgent + _older)
_FROM_HERE = (
    select(Job.id)
    .where(*_standing, or_(Job.priority < _priority, and_(Job.priority == _priority, Job.id >= _id)))
    .order_by(Job.priority.desc(), Job.id)
    .limit(NEARBY)
)


def of(session: Session, jobs: Sequence[Job], live: Mapping[str, Attempt]) -> dict[str, Outlook]:
    """For each of the jobs, given their live attempts."""
    found = {job.id: _beside_the_queue(job, live.get(job.id)) for job in jobs}
    queue = [job for job in jobs if found[job.id] is None]
    if queue:
        found |= _in_queue(session, queue)
    return {job_id: outlook or MOVES for job_id, outlook in found.items()}


def _beside_the_queue(job: Job, attempt: Attempt | None) -> Outlook | None:
    """None for a job that waits in the queue."""
    if job.state is JobState.PAUSED:
        return Outlook(reason="paused: resume it to go on")
    if job.requested is not None:
        return Outlook(reason=f"{job.requested} was asked for: waiting for the attempt to answer, or its lease to end")
    if job.state is JobState.RUNNING:
        return Outlook(reason=(job.progress or {}).get("waits_for"))
    if job.state is not JobState.QUEUED:
        return MOVES
    return None if attempt is None else Outlook(reason=f"attempt {attempt.number} is starting")


def _in_queue(session: Session, queue: Sequence[Job]) -> dict[str, Outlook]:
    now, total = given_out(session)
    room = total or BOUNDLESS
    line = sorted((job for job in queue if job.not_before <= now and room.holds(takes(job))), key=_place)
    taking = session.connection().execute(TAKING).all() if line else ()
    # Those that are starting are queued by state, and stand in the line no more.
    starting = {_place(one) for one in taking if one.starting and one.not_before <= now and room.holds(takes(one))}
    positions = _positions(session, line, starting, now, room) if line else {}
    running = [takes(one) for one in taking]
    return {
        job.id: Outlook(position=positions.get(job.id), reason=_why(job, positions.get(job.id, 1), running, total, now))
        for job in queue
    }


def _why(job: Job, position: int, running: Sequence[Room], total: Room | None, now: int) -> str:
    """What would hold it longest comes first."""
    needs = takes(job)
    if job.not_before > now:
        wait = math.ceil((job.not_before - now) / 1000)
        return f"retry in {wait} s after: {job.waiting_for or 'an earlier attempt'}"
    if total is None:
        return "no dispatcher is running: start the service, or look at why it stopped"
    lacking = total.lacks(needs)
    if lacking is not None:
        need, have = getattr(needs, lacking), getattr(total, lacking)
        set_by = f"PURL_{lacking.upper()}, or what the Ray cluster has"
        return f"it reserves {need:g} {lacking.upper()} and there are {have:g} in all ({set_by})"
    if position > 1:
        return f"waiting for {_jobs(position - 1)} ahead"
    free = total.minus(running)
    lacking = free.lacks(needs)
    if lacking in ("cpus", "gpus"):
        need, left, all_of = getattr(needs, lacking), max(0.0, getattr(free, lacking)), getattr(total, lacking)
        return f"next in the queue; it reserves {need:g} {lacking.upper()} and {left:g} of {all_of:g} are free"
    return f"next in the queue; {_jobs(len(running))} running" if running else "next in the queue"


def _positions(
    session: Session, line: Sequence[Job], starting: Collection[Place], now: int, room: Room
) -> dict[str, int]:
    """The first is counted up to, and those behind it are read from there."""
    standing = {"now": now, "cpus": room.cpus + ROUNDING, "gpus": room.gpus + ROUNDING}

    def ahead_of(job: Job) -> int:
        counted = session.connection().execute(_AHEAD, {**standing, **_named(job)}).scalar_one()
        return int(counted) - sum(place < _place(job) for place in starting)

    first, gone = line[0], {job_id for _, job_id in starting}
    ids = [first.id] if len(line) == 1 else session.scalars(_FROM_HERE, {**standing, **_named(first)}).all()
    waiting = (job_id for job_id in ids if job_id not in gone)
    nearby = {job_id: nth for nth, job_id in enumerate(waiting, ahead_of(first) + 1)}
    return {job.id: nearby.get(job.id) or ahead_of(job) + 1 for job in line}


def _place(job: Job | Taking) -> Place:
    return -job.priority, job.id


def _named(job: Job) -> dict[str, object]:
    return {"priority": job.priority, "id": job.id}


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
