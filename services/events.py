"""What happened to a job, in order: 1, 2, 3, … without a gap. Nothing is ever changed or taken away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sqlalchemy import Table, func, insert, select
from sqlalchemy.orm import Session

from purlkit.results import WorkerEvent
from services.database import clock
from services.paging import Page, cut
from services.tables import Attempt, Event, Job, Json


def append(session: Session, job_id: str, type: str, data: Json, attempt_id: str | None = None) -> Event:
    """The service's own word: `state`, `attempt` or `request`."""
    # Numbers stay gapless because writers of one job queue up behind its row.
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    event = Event(
        job_id=job_id,
        seq=_last_seq(session, job_id) + 1,
        type=type,
        data=data,
        attempt_id=attempt_id,
        created_at=clock(session),
    )
    session.add(event)
    session.flush()
    return event


def first(session: Session, job_id: str, type: str, data: Json, now: int) -> None:
    """As `append`, for a job that this transaction has made: nobody else can have said anything of it."""
    session.connection().execute(_FIRST, {"job_id": job_id, "seq": 1, "type": type, "data": data, "created_at": now})


_FIRST = insert(cast(Table, Event.__table__))


def extend(session: Session, attempt: Attempt, first_seq: int, said: Sequence[WorkerEvent]) -> None:
    """A worker's words, numbered by the worker from `first_seq`. Its fence has locked the job's row."""
    last, now = _last_seq(session, attempt.job_id), clock(session)
    session.add_all(
        Event(
            job_id=attempt.job_id,
            seq=last + 1 + place,
            type=event.type,
            data=event.data,
            attempt_id=attempt.id,
            attempt_seq=first_seq + place,
            created_at=now,
        )
        for place, event in enumerate(said)
    )
    session.flush()


def page(session: Session, job_id: str, after: int = 0, limit: int = 100) -> Page[Event]:
    """Ascending from the one after `after`; `next` is the last seq seen, so a reader can always ask again with it."""
    query = select(Event).where(Event.job_id == job_id, Event.seq > after).order_by(Event.seq).limit(limit + 1)
    items, has_more = cut(list(session.scalars(query)), limit)
    return Page(items=items, has_more=has_more, next=str(items[-1].seq if items else after))


def _last_seq(session: Session, job_id: str) -> int:
    return session.scalar(select(func.max(Event.seq)).where(Event.job_id == job_id)) or 0
