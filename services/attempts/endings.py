"""How attempts end, and what becomes of their jobs then."""

from __future__ import annotations

import hashlib
from typing import Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from purlkit.results import ErrorReport, Finish, Outcome, Phase, Result
from services import artifacts
from services.artifacts import Blob
from services.attempts.claims import out_of_time
from services.attempts.work import fence
from services.database import clock
from services.errors import AttemptSuperseded, IllegalMove, InvalidFinish
from services.moves import CANCELLED, end_attempt, lock, move_job
from services.states import LIVE, AttemptState, JobState
from services.tables import Attempt, Job

Cause = Literal["lost", "stalled", "drained"]

# Losing an attempt is nobody's fault and is retried for ever, as long as each gets further than the one before.
MOST_FRUITLESS = 10
LONGEST_WAIT_SECONDS = 60


def finish(session: Session, attempt: Attempt, last_word: Finish) -> Job:
    """Ends attempt and job and publishes what the last word names, all at once. Saying the same again is fine."""
    digest = hashlib.sha256(last_word.model_dump_json().encode()).hexdigest()
    try:
        attempt, job = fence(session, attempt)
    except AttemptSuperseded:
        return _said_before(session, attempt, digest)
    attempt.finish_sha256 = digest
    match last_word.outcome:
        case Outcome.SUCCEEDED:
            _succeed(session, attempt, job, last_word)
        case Outcome.FAILED:
            _fail(session, attempt, job, last_word)
        case Outcome.DRAINED:
            _publish(session, attempt, last_word)
            _interrupt(session, attempt, job, reason="drained", cause="drained")
        case Outcome.PAUSED:
            end_attempt(session, attempt, AttemptState.PAUSED, reason="paused")
            _publish(session, attempt, last_word)
            # If nobody wants the pause any more, it was one moment's rest.
            _put_back(session, job, reason="the pause was taken back")
        case Outcome.CANCELLED:
            if job.requested != "cancel":
                raise IllegalMove("nobody asked to cancel this job", remedy="finish with another outcome")
            end_attempt(session, attempt, AttemptState.CANCELLED, reason="cancelled")
            _publish(session, attempt, last_word)
            _put_back(session, job, reason="cancelled")
    return job


def condemn(session: Session, attempt: Attempt, *, reason: str, cause: Cause) -> None:
    """Why its processes are about to be ended. A worker that answers by draining does not make a drain of it."""
    doomed = update(Attempt).where(Attempt.id == attempt.id, Attempt.state.in_(LIVE), Attempt.cause.is_(None))
    session.execute(doomed.values(reason=reason, cause=cause))


def rescue(session: Session, attempt: Attempt, *, reason: str, cause: Cause = "lost", log: Blob | None = None) -> Job:
    """Gives up an attempt that did not end by itself. One that has ended meanwhile stays as it is."""
    job = lock(session, attempt.job_id)
    query = select(Attempt).where(Attempt.id == attempt.id, Attempt.state.in_(LIVE)).with_for_update()
    given_up = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if given_up is None:
        return job
    if log is not None:
        artifacts.replace_log(session, given_up, log)
    _interrupt(session, given_up, job, reason=reason, cause=cause)
    return job


def _succeed(session: Session, attempt: Attempt, job: Job, last_word: Finish) -> None:
    if job.requested == "cancel":
        end_attempt(session, attempt, AttemptState.CANCELLED, reason="cancelled before its result came")
        _put_back(session, job, reason="cancelled")
        return
    result = _checked_result(session, attempt, last_word)
    _publish(session, attempt, last_word)
    end_attempt(session, attempt, AttemptState.SUCCEEDED)
    done = {"fraction": 1.0, "phase": Phase.PUBLISH.value, "eta_seconds": 0.0}
    job.phase, job.progress = Phase.PUBLISH.value, {**(job.progress or {}), **done}
    move_job(session, job, JobState.SUCCEEDED, result=result)


def _fail(session: Session, attempt: Attempt, job: Job, last_word: Finish) -> None:
    error = last_word.error
    if error is None or last_word.result is not None:
        raise InvalidFinish("a failure has an error and no result", remedy="send `error`, and only that")
    _publish(session, attempt, last_word)
    attempt.error_code, attempt.error_where = error.code, error.where
    end_attempt(session, attempt, AttemptState.FAILED, reason=error.message, cause=error.code)
    alike = (
        select(func.count())
        .select_from(Attempt)
        .where(
            Attempt.job_id == job.id,
            Attempt.error_code == error.code,
            Attempt.error_where.is_not_distinct_from(error.where),
        )
    )
    times = session.scalars(alike).one()
    if job.requested == "cancel" or (error.retryable and times < job.max_attempts):
        _put_back(session, job, reason=error.message, wait_seconds=_wait_seconds(times))
    else:
        move_job(session, job, JobState.FAILED, reason=error.message, error=error)


def _interrupt(session: Session, attempt: Attempt, job: Job, *, reason: str, cause: Cause) -> None:
    """An end that was no exception: again without limit, unless ten in a row got no further."""
    if _out_of_time(session, job):
        # Told to stop because its time was up, a worker saves its work and says that it has drained.
        end_attempt(session, attempt, AttemptState.FAILED, reason="out of time", cause="timeout")
        move_job(session, job, JobState.FAILED, reason=reason, error=_timeout(job))
        return
    reason, condemned = attempt.reason or reason, attempt.cause or cause
    drained = condemned == "drained"
    end_attempt(
        session, attempt, AttemptState.DRAINED if drained else AttemptState.LOST, reason=reason, cause=condemned
    )
    job.fruitless = 0 if attempt.saved else job.fruitless + 1
    if job.fruitless >= MOST_FRUITLESS and job.requested is None:
        message = f"{job.fruitless} attempts in a row ended without saving anything; the last one: {reason}"
        error = ErrorReport(code="attempts_exhausted", message=message)
        move_job(session, job, JobState.FAILED, reason=reason, error=error)
        return
    wait = 0.0 if drained or attempt.saved else _wait_seconds(job.fruitless)
    _put_back(session, job, reason=reason, wait_seconds=wait)


def _out_of_time(session: Session, job: Job) -> bool:
    return job.requested != "cancel" and out_of_time(session, job.id, clock(session))


def _timeout(job: Job) -> ErrorReport:
    message = f"the job has run for its timeout_seconds of {job.timeout_seconds:g}: allow more, or ask for less"
    return ErrorReport(code="timeout", message=message)


def _put_back(session: Session, job: Job, *, reason: str, wait_seconds: float = 0.0) -> None:
    """Where a job without an attempt goes: where it was asked to go, or else back into the queue."""
    if job.requested == "cancel":
        move_job(session, job, JobState.CANCELLED, reason=reason, error=CANCELLED)
        return
    job.not_before = clock(session) + round(wait_seconds * 1000)
    job.waiting_for = reason
    if job.requested == "pause":
        move_job(session, job, JobState.PAUSED, reason=reason)
    elif job.state is JobState.RUNNING:
        move_job(session, job, JobState.QUEUED, reason=reason)
    session.flush()


def _wait_seconds(times: int) -> float:
    return float(min(LONGEST_WAIT_SECONDS, 2**times))


def _checked_result(session: Session, attempt: Attempt, last_word: Finish) -> Result:
    result = last_word.result
    if result is None or last_word.error is not None:
        raise InvalidFinish("a success has a result and no error", remedy="send `result`, and only that")
    checkpoints = [point.checkpoint for point in result.points]
    if result.checkpoint not in checkpoints:
        raise InvalidFinish("the headline's checkpoint is none of its points'", remedy="take the headline from a point")
    for told in checkpoints:
        checkpoint = artifacts.staged(session, attempt, told.name)
        if checkpoint is None or told.name not in last_word.artifacts:
            raise InvalidFinish("a success publishes its checkpoints", remedy="upload each, and name it in `artifacts`")
        if (checkpoint.sha256, checkpoint.bytes) != (told.sha256, told.bytes):
            raise InvalidFinish("the result speaks of another checkpoint than the uploaded one", remedy="name that one")
    return result


def _publish(session: Session, attempt: Attempt, last_word: Finish) -> None:
    for name in last_word.artifacts:
        artifact = artifacts.staged(session, attempt, name)
        if artifact is None:
            raise InvalidFinish("an artifact that it names was never uploaded", remedy="upload it first")
        artifacts.publish(session, artifact)


def _said_before(session: Session, attempt: Attempt, digest: str) -> Job:
    ended = session.get(Attempt, attempt.id, populate_existing=True)
    if ended is None or ended.finish_sha256 != digest or ended.token_sha256 != attempt.token_sha256:
        raise AttemptSuperseded
    return session.get_one(Job, ended.job_id)
