"""What the service is busy with: how many jobs are in each state, who gives out room, and the line in its order."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.listing import Entry
from services.states import JobState
from services.tables import DispatcherRow, Job


def counts(session: Session) -> dict[JobState, int]:
    """Of every state, those without a job too."""
    found = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
    return {**dict.fromkeys(JobState, 0), **{row[0]: row[1] for row in found}}


def in_line(session: Session, state: JobState, *, most: int) -> Sequence[Entry]:
    """The jobs of a state as the queue takes them: by priority, then by age."""
    query = select(Job.id, Job.version, Job.state).where(Job.state == state)
    return session.execute(query.order_by(Job.priority.desc(), Job.id).limit(most)).all()


def dispatchers(session: Session) -> Sequence[DispatcherRow]:
    """All that were heard of lately, those that have fallen silent too; the latest word first."""
    return session.scalars(select(DispatcherRow).order_by(DispatcherRow.seen_at.desc())).all()
