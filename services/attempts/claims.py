"""What the dispatcher asks: which job is next, and which attempts live, are overdue, or left processes behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from purlkit.results import ErrorReport
from purlkit.spec import JobSpec
from services import events, scheduling
from services.database import CLAIM_LOCK, alone, clock
from services.errors import NotFound
from services.ids import digest, new_id, new_token
from services.launch import Capacity
from services.moves import move_job
from services.settings import Settings
from services.states import ENDS, LIVE, AttemptState, JobState
from services.tables import Attempt, Event, Job, Leftover

UNREADABLE = ErrorReport(
    code="unreadable_spec",
    message="another version of the program stored this job's spec, and this one can't read it: submit it again",
)


# So many times what a step takes as a rule is no longer a slow step.
SLOW_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a launcher needs to start the attempt. The token is nowhere else."""

    attempt_id: str
    job_id: str
    number: int
    token: str = field(repr=False)


def claim(session: Session, settings: Settings, *, place: str = "", has: Capacity | None = None) -> Claim | None:
    """A token for the job that is next, and may start in a place that has so much. None if there is none."""
    # Before the first look: several dispatchers would each find the same room free.
    alone(session.connection(), CLAIM_LOCK)
    while (job := scheduling.next_job(session, settings, clock(session), has)) is not None:
        if _is_readable(session, job):
            return _claim(session, settings, job, place)
    return None


def _claim(session: Session, settings: Settings, job: Job, place: str) -> Claim:
    now = clock(session)
    token = new_token()
    attempt = Attempt(
        id=new_id("att"),
        job_id=job.id,
        number=(session.scalar(select(func.max(Attempt.number)).where(Attempt.job_id == job.id)) or 0) + 1,
        state=AttemptState.LAUNCHING,
        place=place,
        token_sha256=digest(token),
        lease_until=now + round(settings.lease_seconds * 1000),
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        stall_seconds=settings.stall_seconds,
        created_at=now,
    )
    session.add(attempt)
    session.flush()
    told = {"number": attempt.number, "state": attempt.state.value, "reason": None, "cause": None}
    events.append(session, job.id, "attempt", told, attempt.id)
    return Claim(attempt_id=attempt.id, job_id=job.id, number=attempt.number, token=token)


def _is_readable(session: Session, job: Job) -> bool:
    """What another version of the program has stored may mean nothing to this one: no attempt could ever run it."""
    try:
        JobSpec.model_validate(job.spec)
    except ValidationError:
        move_job(session, job, JobState.FAILED, error=UNREADABLE)
        return False
    return True


def launched(session: Session, attempt_id: str, handle: Mapping[str, Any]) -> None:
    """Where its processes are. Kept even if the attempt has ended meanwhile: then `unreaped` brings it up."""
    _get(session, attempt_id).handle = dict(handle)
    session.flush()


def request_drain(session: Session, attempt_id: str) -> None:
    """Its next heartbeat is answered with `drain`."""
    _get(session, attempt_id).draining = True
    session.flush()


def live(session: Session) -> list[Attempt]:
    """Every attempt whose token still works, oldest first."""
    return list(session.scalars(select(Attempt).where(Attempt.state.in_(LIVE)).order_by(Attempt.id)))


def expired(session: Session) -> list[Attempt]:
    """Live ones whose lease has run out, or whose job has used up its timeout_seconds: `rescue` tells them apart."""
    now = clock(session)
    limited = (Job.state == JobState.RUNNING, Job.timeout_seconds.is_not(None))
    over = select(Job.id).join(Attempt).where(*limited).group_by(Job.id, Job.timeout_seconds).having(_is_over(now))
    late = or_(Attempt.lease_until < now, Attempt.job_id.in_(over))
    return list(session.scalars(select(Attempt).where(Attempt.state.in_(LIVE), late).order_by(Attempt.id)))


def stalled(session: Session) -> list[Attempt]:
    """Running ones that beat, but have finished no step and no batch for longer than they may."""
    now = clock(session)
    since = func.coalesce(Attempt.counter_moved_at, Attempt.started_at)
    hung = select(Attempt).where(Attempt.state == AttemptState.RUNNING, since + Attempt.stall_seconds * 1000 < now)
    return [
        attempt
        for attempt in session.scalars(hung.order_by(Attempt.id))
        if (attempt.counter_moved_at or attempt.started_at or now) + patience_of(attempt) * 1000 < now
    ]


def patience_of(attempt: Attempt) -> float:
    """For how many seconds it may finish nothing. Steps of a large network may take longer than any setting."""
    steps = attempt.pace or [0.0]
    return max(attempt.stall_seconds, SLOW_STEPS * median(steps))


def deaf(session: Session) -> list[Attempt]:
    """Live ones that were asked to cancel a whole lease ago, and still beat."""
    asked = select(func.max(Event.created_at)).where(Event.job_id == Attempt.job_id, Event.type == "request")
    late = asked.scalar_subquery() + Attempt.lease_seconds * 1000 < clock(session)
    ignoring = select(Attempt).join(Job).where(Attempt.state.in_(LIVE), Job.requested == "cancel", late)
    return list(session.scalars(ignoring.order_by(Attempt.id)))


def unreaped(session: Session) -> list[Attempt]:
    """Ended ones whose processes nobody has seen gone yet."""
    left = select(Attempt).where(Attempt.state.in_(ENDS), Attempt.handle.is_not(None))
    return list(session.scalars(left.order_by(Attempt.id)))


def reaped(session: Session, attempt_id: str) -> None:
    """No process of it is left."""
    _get(session, attempt_id).handle = None
    session.flush()


def leftovers(session: Session) -> list[Leftover]:
    """Of deleted jobs: processes that nobody has seen gone yet."""
    return list(session.scalars(select(Leftover)))


def cleared(session: Session, leftover: Leftover) -> None:
    session.execute(delete(Leftover).where(Leftover.attempt_id == leftover.attempt_id))


def history(session: Session, job_ids: Sequence[str]) -> dict[str, list[Attempt]]:
    """All attempts of each of these jobs, in their order."""
    attempts: dict[str, list[Attempt]] = {job_id: [] for job_id in job_ids}
    for attempt in session.scalars(select(Attempt).where(Attempt.job_id.in_(job_ids)).order_by(Attempt.number)):
        attempts[attempt.job_id].append(attempt)
    return attempts


def out_of_time(session: Session, job_id: str, now: int) -> bool:
    """Whether its attempts together have run for as long as the job may."""
    over = select(Job.id).join(Attempt).where(Job.id == job_id).group_by(Job.id, Job.timeout_seconds)
    return session.scalar(over.having(_is_over(now))) is not None


def _is_over(now: int) -> ColumnElement[bool]:
    """Of a job joined with its attempts. One that never reported has not run; a sum of nothing is over no limit."""
    return func.sum(func.coalesce(Attempt.ended_at, now) - Attempt.started_at) >= Job.timeout_seconds * 1000


def _get(session: Session, attempt_id: str) -> Attempt:
    attempt = session.get(Attempt, attempt_id, populate_existing=True, with_for_update=True)
    if attempt is None:
        raise NotFound("attempt")
    return attempt
