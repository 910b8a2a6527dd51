"""Sweeps: many jobs that one request made. Each is a job like any other; a sweep is only how they are seen together."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer

from purlkit.spec import JobSpec, SweepPoint, SweepSpec
from services import jobs, paging, quotas
from services.database import clock
from services.errors import IllegalMove, InvalidCursor, NotFound
from services.ids import is_id, new_id
from services.jobs import Member
from services.paging import Page
from services.quotas import Quotas
from services.states import JobState
from services.tables import Job, Sweep
from services.tenants import tenant_of


@dataclass(frozen=True, kw_only=True)
class Submitted:
    sweep: Sweep
    replayed: bool  # the key was known: nothing new was made


def submit(
    session: Session,
    spec: SweepSpec,
    points: Sequence[tuple[SweepPoint, JobSpec]],
    *,
    key: str | None = None,
    keep_hours: float = 24.0,
    limits: Quotas = quotas.NONE,
) -> Submitted:
    """All jobs or none. The key is kept with the first of them, so that repeating the request finds the sweep."""
    said = spec.model_dump_json()
    body_sha256 = hashlib.sha256(f"sweep {said}".encode()).hexdigest()
    sweep = Sweep(
        id=new_id("swp"),
        tenant=tenant_of(session),
        name=spec.name,
        spec=spec.model_dump(mode="json"),
        created_at=clock(session),
    )
    for number, (point, job_spec) in enumerate(points):
        with point.blamed():
            made = jobs.submit(
                session,
                job_spec,
                key=key if number == 0 else None,
                body_sha256=body_sha256,
                keep_hours=keep_hours,
                limits=limits,
                member=Member(sweep.id, dict(point.settings)),
            )
        if made.replayed:
            return Submitted(sweep=get(session, made.job.sweep_id or ""), replayed=True)
    session.add(sweep)
    session.flush()
    return Submitted(sweep=sweep, replayed=False)


def get(session: Session, sweep_id: str) -> Sweep:
    sweep = session.get(Sweep, sweep_id) if is_id(sweep_id, "swp") else None
    if sweep is None:
        raise NotFound("sweep")
    return sweep


def page(session: Session, *, limit: int = 20, after: str | None = None) -> Page[Sweep]:
    """Newest first."""
    query = select(Sweep).order_by(Sweep.id.desc()).limit(limit + 1)
    if after is not None:
        last = paging.decode(after)
        if not is_id(last, "swp"):
            raise InvalidCursor
        query = query.where(Sweep.id < last)
    items, has_more = paging.cut(list(session.scalars(query)), limit)
    return Page(items=items, has_more=has_more, next=paging.encode(items[-1].id) if has_more else None)


def states(session: Session, sweep_ids: Sequence[str]) -> dict[str, Counter[JobState]]:
    """Of each sweep how many of its jobs are in which state."""
    counted: dict[str, Counter[JobState]] = {sweep_id: Counter() for sweep_id in sweep_ids}
    query = select(Job.sweep_id, Job.state, func.count()).where(Job.sweep_id.in_(sweep_ids))
    for sweep_id, state, count in session.execute(query.group_by(Job.sweep_id, Job.state)):
        counted[sweep_id or ""][state] = count
    return counted


def cancel(session: Session, sweep_id: str) -> Sweep:
    """Whatever has not ended."""
    return _each(session, sweep_id, jobs.request_cancel, lambda _: True, repeats=JobState.CANCELLED)


def pause(session: Session, sweep_id: str) -> Sweep:
    """Whatever has not ended and is not being cancelled."""
    return _each(session, sweep_id, jobs.request_pause, lambda job: job.requested != "cancel")


def resume(session: Session, sweep_id: str) -> Sweep:
    """Whatever is paused or about to be."""
    return _each(session, sweep_id, jobs.resume, lambda job: job.state is JobState.PAUSED or job.requested == "pause")


def _each(
    session: Session,
    sweep_id: str,
    move: Callable[[Session, str], Job],
    concerns: Callable[[Job], bool],
    *,
    repeats: JobState | None = None,
) -> Sweep:
    """In the order of their ids: two requests that lock the same jobs in two orders would wait for each other."""
    sweep = get(session, sweep_id)
    locked = select(Job).where(Job.sweep_id == sweep.id).order_by(Job.id).with_for_update()
    fresh = locked.options(defer(Job.result)).execution_options(populate_existing=True)
    members = list(session.scalars(fresh))
    if all(job.state.is_terminal and job.state is not repeats for job in members):
        raise IllegalMove(
            "all jobs of the sweep have ended", remedy="retry those that are wanted again, each by itself"
        )
    for job in members:
        if not job.state.is_terminal and concerns(job):
            move(session, job.id)
    return sweep
