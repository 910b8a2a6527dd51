"""What a worker says while it works. Every write goes through the fence; what comes from a stale attempt is refused."""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from purlkit.results import AttemptBrief, Command, Heartbeat, HeartbeatAnswer, SavedWork, WorkerEvents
from purlkit.spec import JobSpec, Uploaded
from services import artifacts, episodes, events
from services.artifacts import Blob
from services.database import clock, now_ms
from services.errors import AttemptSuperseded, EventGap, NotFound, Unauthorized
from services.ids import is_id, opens
from services.moves import lock, move_job
from services.states import LIVE, AttemptState, JobState
from services.tables import Artifact, Attempt, Job, SavedBlob

# Enough for a median that one slow step does not move.
STEPS_KEPT = 15


def authenticate(session: Session, attempt_id: str, token: str, *, ended_ok: bool = False) -> Attempt:
    """Whom the token belongs to. `ended_ok` is for `finish` alone, whose answer may have been lost on its way."""
    attempt = session.get(Attempt, attempt_id) if is_id(attempt_id, "att") else None
    if attempt is None or not opens(token, attempt.token_sha256):
        raise Unauthorized
    if attempt.state.is_terminal and not ended_ok:
        raise AttemptSuperseded
    return attempt


def fence(session: Session, attempt: Attempt) -> tuple[Attempt, Job]:
    """The attempt and its job, both locked, if this attempt may still write; else AttemptSuperseded.

    The first word of an attempt makes it and its job running. Every writer locks the job before the attempt, so no
    two wait for each other.
    """
    job = lock(session, attempt.job_id)
    mine = session.scalars(
        update(Attempt)
        .where(Attempt.id == attempt.id, Attempt.token_sha256 == attempt.token_sha256, Attempt.state.in_(LIVE))
        .values(state=AttemptState.RUNNING, started_at=func.coalesce(Attempt.started_at, now_ms()))
        .returning(Attempt)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).one_or_none()
    if mine is None:
        raise AttemptSuperseded
    if job.state is JobState.QUEUED:
        move_job(session, job, JobState.RUNNING, reason=f"attempt {mine.number} reported")
    return mine, job


def brief(session: Session, attempt: Attempt) -> AttemptBrief:
    """All that the worker needs to start, with what attempts before it have saved."""
    job = session.get_one(Job, attempt.job_id)
    spec = JobSpec.model_validate(job.spec)
    base = f"/attempts/{attempt.id}"
    kept = session.scalars(select(SavedBlob).where(SavedBlob.job_id == job.id))
    return AttemptBrief(
        id=attempt.id,
        job_id=job.id,
        number=attempt.number,
        spec=spec,
        saved={
            row.name: SavedWork(sha256=row.sha256, bytes=row.bytes, href=f"{base}/saved/{row.name}") for row in kept
        },
        weights_href=f"{base}/weights" if isinstance(spec.model.weights, Uploaded) else None,
        lease_seconds=attempt.lease_seconds,
        heartbeat_seconds=attempt.heartbeat_seconds,
    )


def heartbeat(session: Session, attempt: Attempt, beat: Heartbeat) -> HeartbeatAnswer:
    """Renews the lease, and hands over what was asked of the job meanwhile."""
    attempt, job = fence(session, attempt)
    now = clock(session)
    attempt.lease_until = now + round(attempt.lease_seconds * 1000)
    if attempt.counter != beat.counter or job.phase != beat.phase:
        attempt.pace = _pace(attempt, job, beat, now)
        attempt.counter, attempt.counter_moved_at = beat.counter, now
    job.last_heartbeat_at = now
    job.phase = beat.phase.value
    if beat.progress is not None:
        job.progress = beat.progress.model_dump(mode="json")
    session.flush()
    return HeartbeatAnswer(lease_seconds=attempt.lease_seconds, command=_command(attempt, job))


def record_events(session: Session, attempt: Attempt, batch: WorkerEvents) -> None:
    """Those that are already here are passed over, so a batch may be sent again or overlap with the one before."""
    attempt, _ = fence(session, attempt)
    if batch.first_seq > attempt.next_seq:
        raise EventGap(expected=attempt.next_seq)
    new = batch.events[attempt.next_seq - batch.first_seq :]
    events.extend(session, attempt, attempt.next_seq, new)
    for event in new:
        if event.type == "episode":
            episodes.record(session, attempt, event.data)
    attempt.next_seq += len(new)
    session.flush()


def save_work(session: Session, attempt: Attempt, name: str, blob: Blob) -> SavedBlob:
    """Replaces what was saved under that name; the next attempt of the job starts from it."""
    attempt, job = fence(session, attempt)
    artifacts.confirm(session, blob.sha256)
    row = session.get(SavedBlob, (job.id, name))
    if row is None:
        row = SavedBlob(job_id=job.id, name=name)
        session.add(row)
    # Saving again what an earlier attempt had saved is no progress, or a job could start over for ever.
    attempt.saved = attempt.saved or row.sha256 != blob.sha256
    row.attempt_id, row.sha256, row.bytes, row.saved_at = attempt.id, blob.sha256, blob.bytes, clock(session)
    session.flush()
    return row


def find_saved(session: Session, attempt: Attempt, name: str) -> SavedBlob:
    row = session.get(SavedBlob, (attempt.job_id, name))
    if row is None:
        raise NotFound("saved work")
    return row


def stage_artifact(session: Session, attempt: Attempt, name: str, blob: Blob, media_type: str) -> Artifact:
    """Kept for `finish` to publish."""
    attempt, _ = fence(session, attempt)
    return artifacts.stage(session, attempt, name, blob, media_type)


def _pace(attempt: Attempt, job: Job, beat: Heartbeat, now: int) -> list[float] | None:
    """What steps have taken lately. Those of another phase are other work."""
    if job.phase != beat.phase or attempt.counter is None or attempt.counter_moved_at is None:
        return None
    steps = beat.counter - attempt.counter
    if steps <= 0:
        return attempt.pace
    seconds = (now - attempt.counter_moved_at) / 1000 / steps
    return [*(attempt.pace or []), round(seconds, 3)][-STEPS_KEPT:]


def _command(attempt: Attempt, job: Job) -> Command:
    if job.requested == "cancel":
        return "cancel"
    if job.requested == "pause":
        return "pause"
    return "drain" if attempt.draining else "continue"
