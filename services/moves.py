"""The one place where a job or an attempt changes its state: a legal move, its time, and its event, together."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from purlkit.results import ErrorReport, Result
from services import events, metrics
from services.database import clock
from services.errors import NotFound
from services.ids import is_id
from services.states import LIVE, AttemptState, JobState, check_move
from services.tables import Attempt, Job

CANCELLED = ErrorReport(code="cancelled", message="the job was cancelled")


def lock(session: Session, job_id: str) -> Job:
    """The job's row as it is now; other writers of it wait until this transaction ends."""
    if not is_id(job_id, "job"):
        raise NotFound("job")
    query = select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    job = session.scalars(query).one_or_none()
    if job is None:
        raise NotFound("job")
    return job


def live_attempt(session: Session, job_id: str) -> Attempt | None:
    return session.scalars(select(Attempt).where(Attempt.job_id == job_id, Attempt.state.in_(LIVE))).one_or_none()


def move_job(
    session: Session,
    job: Job,
    to: JobState,
    *,
    reason: str | None = None,
    result: Result | None = None,
    error: ErrorReport | None = None,
) -> None:
    """The job must be locked. The table itself refuses an end without exactly one of result and error."""
    check_move(job.state, to)
    now, before = clock(session), job.state
    job.state = to
    if to is JobState.RUNNING:
        job.started_at = job.started_at or now
        job.waiting_for = None
    else:
        job.requested = None
    if to in (JobState.QUEUED, JobState.PAUSED):
        job.phase = None
    if to.is_terminal:
        job.finished_at = now
        job.result = result.model_dump(mode="json") if result else None
        job.error = error.model_dump(mode="json") if error else None
        metrics.job_ended(session, job)
    session.flush()
    events.append(session, job.id, "state", {"state": to.value, "before": before.value, "reason": reason})


def end_attempt(
    session: Session, attempt: Attempt, to: AttemptState, *, reason: str | None = None, cause: str | None = None
) -> None:
    """From here on the attempt's token changes nothing."""
    check_move(attempt.state, to)
    attempt.state = to
    attempt.ended_at = clock(session)
    attempt.reason = reason
    attempt.cause = cause
    metrics.attempt_ended(session, attempt)
    session.flush()
    told = {"number": attempt.number, "state": to.value, "reason": reason, "cause": cause}
    events.append(session, attempt.job_id, "attempt", told, attempt.id)
