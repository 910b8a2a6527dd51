"""The rows that say which stored files belong to a job, and which of them can be seen."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from purlkit.results import LOG
from services.artifacts.blobs import confirm
from services.artifacts.store import Blob
from services.database import clock
from services.errors import ArtifactConflict, NotFound
from services.tables import Artifact, Attempt, LogChunk


def list_published(session: Session, job_id: str) -> list[Artifact]:
    published = select(Artifact).where(Artifact.job_id == job_id, Artifact.published_at.is_not(None))
    return list(session.scalars(published.order_by(Artifact.name)))


def find(session: Session, job_id: str, name: str) -> Artifact:
    """The published artifact of that name; NotFound if there is none."""
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.name == name, Artifact.published_at.is_not(None))
    artifact = session.scalars(query).one_or_none()
    if artifact is None:
        raise NotFound("artifact")
    return artifact


def staged(session: Session, attempt: Attempt, name: str) -> Artifact | None:
    """What the attempt uploaded under that name, published or not."""
    return session.get(Artifact, (attempt.id, name))


def stage(session: Session, attempt: Attempt, name: str, blob: Blob, media_type: str) -> Artifact:
    """The same bytes again are fine, others are not; except for the log, which grows and is visible at once."""
    confirm(session, blob.sha256)
    known = staged(session, attempt, name)
    if known is not None and known.sha256 != blob.sha256 and name != LOG:
        raise ArtifactConflict
    if known is None:
        known = Artifact(attempt_id=attempt.id, job_id=attempt.job_id, name=name, created_at=clock(session))
        session.add(known)
    known.sha256, known.bytes, known.media_type = blob.sha256, blob.bytes, media_type
    session.flush()
    if name == LOG:
        session.execute(delete(LogChunk).where(LogChunk.attempt_id == attempt.id))
        publish(session, known)
    return known


def replace_log(session: Session, attempt: Attempt, blob: Blob) -> None:
    """The log of an attempt that can't upload it any more."""
    stage(session, attempt, LOG, blob, "text/plain; charset=utf-8")


def publish(session: Session, artifact: Artifact) -> None:
    """Makes it the job's own under its name, in place of an earlier attempt's. Each attempt's log stays its own."""
    earlier = (
        Artifact.job_id == artifact.job_id,
        Artifact.name == artifact.name,
        Artifact.attempt_id != artifact.attempt_id,
        Artifact.published_at.is_not(None),
    )
    if artifact.name == LOG:
        session.execute(update(Artifact).where(*earlier).values(published_at=None))
    else:
        session.execute(delete(Artifact).where(*earlier))
    artifact.published_at = clock(session)
    session.flush()
