"""Where queued jobs stand in the line and what each waits for: a few questions, however many are asked about.

The line is that of services.scheduling. Who is to start later, or could never start, does not stand in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Double, Row, String, and_, bindparam, func, or_, select
from sqlalchemy.orm import Session

from services.scheduling import BOUNDLESS, ROUNDING, TAKING, Given, Room, Standing, Taking, given_out, needs, takes
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

# Those that have begun may stand in the line all the same, should a cluster have less by now than they reserve.
MOST_SHRUNK = 1000

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
    select(Job.id, Job.priority)
    .where(*_standing, or_(Job.priority < _priority, and_(Job.priority == _priority, Job.id >= _id)))
    .order_by(Job.priority.desc(), Job.id)
    .limit(NEARBY)
)
_BEGUN_AND_LARGER = (
    select(Job.id, Job.priority, Job.cpus, Job.gpus, Job.started_at, Job.not_before)
    .where(Job.state == JobState.QUEUED, Job.not_before <= bindparam("now", type_=BigInteger))
    .where(or_(Job.cpus > bindparam("cpus", type_=Double), Job.gpus > bindparam("gpus", type_=Double)))
    .where(Job.started_at.is_not(None))
    .order_by(Job.priority.desc(), Job.id)
    .limit(MOST_SHRUNK)
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
    given = given_out(session)
    now, room = given.now, given.total or BOUNDLESS
    line = sorted((job for job in queue if job.not_before <= now and room.holds(needs(job, given.found))), key=_place)
    taking = session.connection().execute(TAKING).all() if line else ()
    positions = _positions(session, line, taking, given, room) if line else {}
    running = [takes(one) for one in taking]
    return {
        job.id: Outlook(position=positions.get(job.id), reason=_why(job, positions.get(job.id, 1), running, given))
        for job in queue
    }


def _why(job: Job, position: int, running: Sequence[Room], given: Given) -> str:
    """What would hold it longest comes first."""
    needed, total, now = needs(job, given.found), given.total, given.now
    if job.not_before > now:
        wait = math.ceil((job.not_before - now) / 1000)
        return f"retry in {wait} s after: {job.waiting_for or 'an earlier attempt'}"
    if total is None:
        return "no dispatcher is running: start the service, or look at why it stopped"
    lacking = total.lacks(needed)
    if lacking is not None:
        need, have = getattr(needed, lacking), getattr(total, lacking)
        set_by = f"PURL_{lacking.upper()}, or what the Ray cluster has"
        return f"it reserves {need:g} {lacking.upper()} and there are {have:g} in all ({set_by})"
    if position > 1:
        return f"waiting for {_jobs(position - 1)} ahead"
    free = total.minus(running)
    lacking = free.lacks(needed)
    if lacking in ("cpus", "gpus"):
        need, left, all_of = getattr(needed, lacking), max(0.0, getattr(free, lacking)), getattr(total, lacking)
        return f"next in the queue; it reserves {need:g} {lacking.upper()} and {left:g} of {all_of:g} are free"
    return f"next in the queue; {_jobs(len(running))} running" if running else "next in the queue"


def _positions(
    session: Session, line: Sequence[Job], taking: Sequence[Taking], given: Given, room: Room
) -> dict[str, int]:
    """The first is counted up to, and those behind it are read from there."""
    standing = {"now": given.now, "cpus": room.cpus + ROUNDING, "gpus": room.gpus + ROUNDING}
    # Those that are starting are queued by state, and stand in the line no more.
    gone = {_place(one) for one in taking if one.starting}
    counted_too = {
        _place(one) for one in taking if one.starting and one.not_before <= given.now and room.holds(takes(one))
    }
    shrunk: set[Place] = set()
    if not given.found.holds(BOUNDLESS):
        larger = session.connection().execute(_BEGUN_AND_LARGER, standing)
        shrunk = {_place(one) for one in larger if room.holds(needs(one, given.found))} - gone

    def ahead_of(job: Job) -> int:
        counted = int(session.connection().execute(_AHEAD, {**standing, **_named(job)}).scalar_one())
        place = _place(job)
        return counted - sum(one < place for one in counted_too) + sum(one < place for one in shrunk)

    first = line[0]
    if len(line) == 1:
        return {first.id: ahead_of(first) + 1}
    read = [_place(row) for row in session.execute(_FROM_HERE, {**standing, **_named(first)})]
    end = read[-1] if len(read) == NEARBY else max([*read, *shrunk], default=_place(first))
    here = sorted({*read, *(one for one in shrunk if _place(first) <= one <= end)} - gone)
    nearby = {job_id: nth for nth, (_, job_id) in enumerate(here, ahead_of(first) + 1)}
    return {job.id: nearby.get(job.id) or ahead_of(job) + 1 for job in line}


def _place(job: Job | Taking | Standing | Row[str, int]) -> Place:
    return -job.priority, job.id


def _named(job: Job) -> dict[str, object]:
    return {"priority": job.priority, "id": job.id}


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
