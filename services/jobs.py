"""Jobs as their owners see them: submitted, looked at, asked to stop or go on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import cast

from pydantic import ValidationError
from sqlalchemy import Table, exists, insert, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, make_transient_to_detached

from purlkit.errors import InvalidSpec, MissingWeights
from purlkit.spec import JobSpec
from services import events, quotas, weights
from services.database import clock
from services.errors import IdempotencyMismatch, IllegalMove, NotFound
from services.ids import is_id, new_id
from services.moves import CANCELLED, end_attempt, live_attempt, lock, move_job
from services.quotas import Quotas
from services.states import AttemptState, JobState
from services.tables import (
    PLACE,
    Artifact,
    Attempt,
    IdempotencyKey,
    Job,
    JobLabel,
    Json,
    Leftover,
    SavedBlob,
    Sweep,
)
from services.tenants import tenant_of

HOUR_MS = 3_600_000


@dataclass(frozen=True, kw_only=True)
class Submitted:
    job: Job
    replayed: bool  # the key was known: nothing new was made


@dataclass(frozen=True)
class Member:
    """Of which sweep a job is, and what sets it apart from the others there."""

    sweep_id: str
    point: Json


def submit(
    session: Session,
    spec: JobSpec,
    *,
    key: str | None = None,
    body_sha256: str | None = None,
    keep_hours: float = 24.0,
    limits: Quotas = quotas.NONE,
    parent: str | None = None,
    member: Member | None = None,
) -> Submitted:
    """A new job in the queue, or the one that this key made before. Key and job are written together or not at all."""
    spec = spec.resolve()
    if key is None:
        quotas.check(session, limits)
        return Submitted(job=_insert(session, spec, parent, member), replayed=False)
    body_sha256 = body_sha256 or hashlib.sha256(spec.model_dump_json().encode()).hexdigest()
    earlier = _made_before(session, key, body_sha256)
    if earlier is not None:
        return Submitted(job=earlier, replayed=True)
    quotas.check(session, limits)
    try:
        with session.begin_nested():
            job = _insert(session, spec, parent, member)
            expires_at = job.created_at + round(keep_hours * HOUR_MS)
            session.add(
                IdempotencyKey(
                    tenant=job.tenant, key=key, body_sha256=body_sha256, job_id=job.id, expires_at=expires_at
                )
            )
    except IntegrityError:
        # Somebody else wrote the same key since we looked, and has committed by now.
        earlier = _made_before(session, key, body_sha256)
        if earlier is None:
            raise
        return Submitted(job=earlier, replayed=True)
    return Submitted(job=job, replayed=False)


def get(session: Session, job_id: str) -> Job:
    job = session.get(Job, job_id) if is_id(job_id, "job") else None
    if job is None:
        raise NotFound("job")
    return job


def retry(
    session: Session,
    job_id: str,
    *,
    key: str | None = None,
    keep_hours: float = 24.0,
    limits: Quotas = quotas.NONE,
) -> Submitted:
    """A new job of the same spec that names the ended one as its parent."""
    ended = get(session, job_id)
    if not ended.state.is_terminal:
        raise IllegalMove(f"the job has not ended: it is {ended.state}", remedy="wait for its end, or cancel it first")
    try:
        spec = JobSpec.model_validate(ended.spec)
    except ValidationError as error:
        message = "another version of the program stored the job's spec, and this one can't read it"
        raise InvalidSpec(message, remedy="POST /jobs with a spec of this version") from error
    return submit(
        session,
        spec,
        key=key,
        body_sha256=hashlib.sha256(f"retry {job_id}".encode()).hexdigest(),
        keep_hours=keep_hours,
        limits=limits,
        parent=job_id,
        # It takes the ended one's place in the table.
        member=Member(sweep_id, ended.sweep_point or {}) if (sweep_id := _hold_sweep(session, ended)) else None,
    )


def request_cancel(session: Session, job_id: str) -> Job:
    """At once where nothing reports yet; else the attempt is told, and whatever it says then, the job is cancelled."""
    job = lock(session, job_id)
    if job.state is JobState.CANCELLED or job.requested == "cancel":
        return job
    if job.state is JobState.RUNNING:
        return _request(session, job, "cancel")
    _refuse_if_ended(job)
    _end_launching(session, job, AttemptState.CANCELLED)
    move_job(session, job, JobState.CANCELLED, error=CANCELLED)
    return job


def request_pause(session: Session, job_id: str) -> Job:
    job = lock(session, job_id)
    if job.state is JobState.PAUSED or job.requested == "pause":
        return job
    if job.requested == "cancel":
        raise IllegalMove("the job is being cancelled", remedy="retry it once it has ended")
    if job.state is JobState.RUNNING:
        return _request(session, job, "pause")
    _refuse_if_ended(job)
    _end_launching(session, job, AttemptState.PAUSED)
    move_job(session, job, JobState.PAUSED)
    return job


def resume(session: Session, job_id: str) -> Job:
    """Back into the queue; a pause that was asked for but has not happened yet is taken back."""
    job = lock(session, job_id)
    _refuse_if_ended(job)
    if job.requested == "cancel":
        raise IllegalMove("the job is being cancelled", remedy="retry it once it has ended")
    waiting, pausing = job.state is JobState.PAUSED, job.requested == "pause"
    if not waiting and not pausing:
        if job.resumed_at is None:
            raise IllegalMove("the job is not paused", remedy="there is nothing to resume")
        return job
    job.requested = None
    job.resumed_at = job.not_before = clock(session)
    job.fruitless = 0
    events.append(session, job.id, "request", {"request": "resume"})
    if waiting:
        move_job(session, job, JobState.QUEUED)
    return job


def delete(session: Session, job_id: str) -> list[str]:
    """Every row of an ended job goes. Returns the sha256 of the bytes that it named: nobody else may, by now."""
    job = lock(session, job_id)
    if not job.state.is_terminal:
        raise IllegalMove("the job has not ended", remedy="cancel it first")
    for attempt in session.scalars(select(Attempt).where(Attempt.job_id == job.id, Attempt.handle.is_not(None))):
        session.add(Leftover(attempt_id=attempt.id, handle={**(attempt.handle or {}), PLACE: attempt.place}))
    named = [*session.scalars(select(Artifact.sha256).where(Artifact.job_id == job.id))]
    named += session.scalars(select(SavedBlob.sha256).where(SavedBlob.job_id == job.id))
    weights.let_go(session, job.id)
    session.flush()
    _hold_sweep(session, job)
    session.delete(job)
    session.flush()
    if job.sweep_id is not None:
        others = exists().where(Job.sweep_id == job.sweep_id)
        session.execute(sql_delete(Sweep).where(Sweep.id == job.sweep_id, ~others))
    return sorted(set(named))


def _hold_sweep(session: Session, job: Job) -> str | None:
    """The job's sweep if it is there, which it then is until this transaction ends.

    Of two that delete the last two jobs each would see the other's, and the sweep would be left without any.
    """
    if job.sweep_id is None:
        return None
    return session.scalars(select(Sweep.id).where(Sweep.id == job.sweep_id).with_for_update()).one_or_none()


def _insert(session: Session, spec: JobSpec, parent: str | None, member: Member | None) -> Job:
    if not weights.hold(session, spec):
        raise MissingWeights("these weights are not here", at="/model/weights/sha256", remedy="POST /weights first")
    now = clock(session)
    row = {
        **_EMPTY,
        "id": new_id("job"),
        "tenant": tenant_of(session),
        "version": 1,
        "state": JobState.QUEUED,
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "model": spec.model.name,
        "parent": parent,
        "sweep_id": member and member.sweep_id,
        "sweep_point": member and member.point,
        "fingerprint": spec.fingerprint,
        "priority": spec.priority,
        "timeout_seconds": spec.timeout_seconds,
        "max_attempts": spec.max_attempts,
        "cpus": spec.resources.cpus,
        "gpus": spec.resources.gpus,
        "fruitless": 0,
        "not_before": now,
        "created_at": now,
    }
    # A session that finds out by itself what to insert takes longer for it than the database does.
    session.connection().execute(_INSERT, row)
    job = Job(**row)
    make_transient_to_detached(job)
    session.add(job)
    session.add_all(JobLabel(job_id=job.id, key=key, value=value) for key, value in spec.labels.items())
    events.first(session, job.id, "state", {"state": job.state.value, "before": None, "reason": None}, now)
    return job


_INSERT = insert(cast(Table, Job.__table__))
_EMPTY: dict[str, object] = dict.fromkeys(Job.__table__.columns.keys())


def _made_before(session: Session, key: str, body_sha256: str) -> Job | None:
    session.execute(sql_delete(IdempotencyKey).where(IdempotencyKey.expires_at <= clock(session)))
    known = session.get(IdempotencyKey, (tenant_of(session), key), populate_existing=True)
    if known is None:
        return None
    if known.body_sha256 != body_sha256:
        raise IdempotencyMismatch
    return get(session, known.job_id)


def _request(session: Session, job: Job, what: str) -> Job:
    job.requested = what
    session.flush()
    events.append(session, job.id, "request", {"request": what})
    return job


def _refuse_if_ended(job: Job) -> None:
    if job.state.is_terminal:
        raise IllegalMove(
            f"the job has ended: it {_ENDINGS[job.state]}", remedy="retry it: POST /jobs/{id}/retry makes a new one"
        )


_ENDINGS = {
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "was cancelled",
}


def _end_launching(session: Session, job: Job, to: AttemptState) -> None:
    """An attempt that has not reported yet is not asked: its token stops to work."""
    attempt = live_attempt(session, job.id)
    if attempt is not None:
        end_attempt(session, attempt, to, reason="before it had reported")
