"""The list of jobs, newest first: ids sort by when they were made. Every filter has an index that ends with the id."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Row, Select, bindparam, exists, or_, select
from sqlalchemy.orm import Session

from services import paging
from services.errors import InvalidCursor, NotFound
from services.ids import first_id_at, is_id
from services.paging import Page
from services.states import JobState
from services.tables import Job, JobLabel

# created_at is the database's word and an id the word of whoever made it: so far apart two clocks may be.
CLOCKS_APART_MS = 3_600_000


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What all jobs of a list have in common; times are milliseconds of UTC, the first included, the second not."""

    state: JobState | None = None
    model: str | None = None
    sweep: str | None = None
    labels: tuple[tuple[str, str], ...] = ()  # of key and value
    search: str | None = None  # a part of the name, or the beginning of the id; no index helps with the first
    created_after: int | None = None
    created_before: int | None = None


ALL = Filter()

Entry = Row[str, int, JobState]  # id, version, state


def page(session: Session, chosen: Filter = ALL, *, limit: int = 50, after: str | None = None) -> Page[Entry]:
    """Which jobs are on the page, and how each can be told from what it was before."""
    items, has_more = paging.cut(list(session.execute(query(chosen, limit=limit, after=after))), limit)
    return Page(items=items, has_more=has_more, next=paging.encode(items[-1].id) if has_more else None)


def entry(session: Session, job_id: str) -> Entry:
    found = session.execute(_ENTRY, {"id": job_id}).one_or_none() if is_id(job_id, "job") else None
    if found is None:
        raise NotFound("job")
    return found


_ENTRY = select(Job.id, Job.version, Job.state).where(Job.id == bindparam("id"))


def query(chosen: Filter, *, limit: int, after: str | None) -> Select[str, int, JobState]:
    """One row more than the page may hold."""
    found, position = select(Job.id, Job.version, Job.state), Job.id
    for nth, (key, value) in enumerate(chosen.labels):
        labelled = (JobLabel.key == key, JobLabel.value == value)
        if nth == 0:
            # The first label leads: its index is read in the order of the list, up to the page's end.
            found = found.join(JobLabel, JobLabel.job_id == Job.id).where(*labelled)
            position = JobLabel.job_id
        else:
            other = select(JobLabel.job_id).where(*labelled).correlate(None).subquery()
            found = found.where(exists().where(other.c.job_id == Job.id))
    if chosen.state is not None:
        found = found.where(Job.state == chosen.state)
    if chosen.model is not None:
        found = found.where(Job.model == chosen.model)
    if chosen.sweep is not None:
        found = found.where(Job.sweep_id == chosen.sweep)
    if chosen.search is not None:
        named = Job.name.icontains(chosen.search, autoescape=True)
        found = found.where(or_(named, Job.id.startswith(chosen.search, autoescape=True)))
    if chosen.created_after is not None:
        earliest = first_id_at("job", chosen.created_after - CLOCKS_APART_MS)
        found = found.where(position >= earliest, Job.created_at >= chosen.created_after)
    if chosen.created_before is not None:
        latest = first_id_at("job", chosen.created_before + CLOCKS_APART_MS)
        found = found.where(position < latest, Job.created_at < chosen.created_before)
    if after is not None:
        last = paging.decode(after)
        if not is_id(last, "job"):
            raise InvalidCursor
        found = found.where(position < last)
    return found.order_by(position.desc()).limit(limit + 1)
