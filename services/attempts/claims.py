"""What the dispatcher asks: which job is next, and which attempts live, are overdue, or left processes behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from services import events
from services.database import clock
from services.errors import NotFound
from services.ids import digest, new_id, new_token
from services.moves import live_attempt
from services.settings import Settings
from services.states import LIVE, AttemptState, JobState
from services.tables import Attempt, Event, Job, Leftover


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a launcher needs to start the attempt. The token is nowhere else."""

    attempt_id: str
    job_id: str
    number: int
    token: str = field(repr=False)


def claim(session: Session, settings: Settings) -> Claim | None:
    """The highest priority first, then the oldest. None if nothing is due or `max_running` attempts live."""
    now = clock(session)
    if len(live(session)) >= settings.max_running:
        return None
    job = _next_due(session, now)
    if job is None:
        return None
    token = new_token()
    attempt = Attempt(
        id=new_id("att"),
        job_id=job.id,
        number=(session.scalar(select(func.max(Attempt.number)).where(Attempt.job_id == job.id)) or 0) + 1,
        state=AttemptState.LAUNCHING,
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
    timed = select(Job.id).where(Job.timeout_seconds.is_not(None), Job.state == JobState.RUNNING)
    limited = set(session.scalars(timed))
    return [
        attempt
        for attempt in live(session)
        if attempt.lease_until < now or (attempt.job_id in limited and out_of_time(session, attempt.job_id, now))
    ]


def stalled(session: Session) -> list[Attempt]:
    """Running ones that beat, but have finished no step and no batch for their stall_seconds."""
    now = clock(session)
    since = func.coalesce(Attempt.counter_moved_at, Attempt.started_at)
    hung = select(Attempt).where(Attempt.state == AttemptState.RUNNING, since + Attempt.stall_seconds * 1000 < now)
    return list(session.scalars(hung.order_by(Attempt.id)))


def deaf(session: Session) -> list[Attempt]:
    """Live ones that were asked to cancel a whole lease ago, and still beat."""
    asked = select(func.max(Event.created_at)).where(Event.job_id == Attempt.job_id, Event.type == "request")
    late = asked.scalar_subquery() + Attempt.lease_seconds * 1000 < clock(session)
    ignoring = select(Attempt).join(Job).where(Attempt.state.in_(LIVE), Job.requested == "cancel", late)
    return list(session.scalars(ignoring.order_by(Attempt.id)))


def unreaped(session: Session) -> list[Attempt]:
    """Ended ones whose processes nobody has seen gone yet."""
    left = select(Attempt).where(Attempt.state.not_in(LIVE), Attempt.handle.is_not(None))
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
    limit = session.scalar(select(Job.timeout_seconds).where(Job.id == job_id))
    if limit is None:
        return False
    ran = func.sum(func.coalesce(Attempt.ended_at, now) - Attempt.started_at)
    ran_ms = session.scalar(select(ran).where(Attempt.job_id == job_id, Attempt.started_at.is_not(None)))
    return (ran_ms or 0) >= limit * 1000


def _get(session: Session, attempt_id: str) -> Attempt:
    attempt = session.get(Attempt, attempt_id, populate_existing=True, with_for_update=True)
    if attempt is None:
        raise NotFound("attempt")
    return attempt


def _next_due(session: Session, now: int) -> Job | None:
    """The job to claim, locked."""
    due = (
        select(Job)
        .where(Job.state == JobState.QUEUED, Job.not_before <= now)
        .where(~exists().where(Attempt.job_id == Job.id, Attempt.state.in_(LIVE)))
        .order_by(Job.priority.desc(), Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job = session.scalars(due).one_or_none()
    # PostgreSQL looks at attempts before it locks the job: another claimer may have been between the two. Once the
    # job is locked nobody can, and the next look sees what that one wrote.
    while job is not None and live_attempt(session, job.id) is not None:
        job = session.scalars(due).one_or_none()
    return job
