"""Which job starts next.

Jobs stand in a line: by priority, then by age. A job starts when what it reserves is free. One that can't start yet
may be passed by others behind it; once it has waited for `pass_seconds`, only by those that leave its room free. So
it starts at the latest when the attempts have ended that ran at that moment, if nothing ahead of it takes the room.
A job that could not start if nothing else ran holds nobody up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from sqlalchemy import ColumnElement, Row, and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from services.database import clock, now_ms
from services.launch import Capacity
from services.settings import Settings
from services.states import ENDS, LIVE, JobState
from services.tables import Attempt, DispatcherRow, Job
from services.tenants import DEFAULT

# How far down the line a pass looks for a job that fits: mostly it is one of the first.
LOOKS = (20, 1000)

# A dispatcher says every few seconds that it is there; one that ends many attempts at once may be silent for a while.
PRESENT_MS = 30_000
FORGOTTEN_MS = 3_600_000

# Shares of a CPU are sums of decimal fractions.
ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Room:
    """What attempts take, or what there is to take."""

    attempts: int = 1
    cpus: float = 0.0
    gpus: float = 0.0

    def minus(self, taken: Iterable[Room]) -> Room:
        rooms = list(taken)
        return Room(
            attempts=self.attempts - sum(room.attempts for room in rooms),
            cpus=self.cpus - sum(room.cpus for room in rooms),
            gpus=self.gpus - sum(room.gpus for room in rooms),
        )

    def lacks(self, needed: Room) -> str | None:
        """The first thing of which there is not enough. Of what is not needed there is always enough."""
        for kind in ("attempts", "cpus", "gpus"):
            need = getattr(needed, kind)
            if need > 0 and need > getattr(self, kind) + ROUNDING:
                return kind
        return None

    def holds(self, needed: Room) -> bool:
        return self.lacks(needed) is None


# Of who takes something now: id, tenant, priority, not_before, cpus, gpus, since when, whether it is starting.
Taking = Row[str, str, int, int, float, float, int, bool]

# Of who stands in the line: id, tenant, priority, cpus, gpus, when it began, from when on it waits for its turn.
Standing = Row[str, str, int, float, float, int | None, int]

BOUNDLESS = Room(attempts=1, cpus=inf, gpus=inf)

_LIMITS = ("cpus", "gpus", "found_cpus", "found_gpus", "tenant_running")


def room_of(attempts: int, cpus: float | None, gpus: float | None) -> Room:
    """As the settings say it: what is not set is not counted."""
    return Room(attempts=attempts, cpus=inf if cpus is None else cpus, gpus=inf if gpus is None else gpus)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    job_id: str
    needs: Room
    since: int  # from when on it might have started


@dataclass(frozen=True, kw_only=True)
class Running:
    takes: Room
    since: int
    tenant: str = DEFAULT


def choose(
    line: Iterable[Waiting], running: Sequence[Running], total: Room, *, now: int, pass_ms: float
) -> Waiting | None:
    """The first of the line that may start now."""
    free = total.minus(one.takes for one in running)
    beside: Room | None = None  # what is left over beside a job that nobody may delay any more
    for job in line:
        if not total.holds(job.needs):
            continue
        if free.holds(job.needs) and (beside is None or beside.holds(job.needs)):
            return job
        kept_from = job.since + pass_ms
        if beside is None and kept_from <= now:
            beside = total.minus([job.needs, *(one.takes for one in running if one.since > kept_from)])
    return None


def room_in(settings: Settings, has: Capacity | None) -> Room:
    """As the settings say it, and where they don't, what the place was found to have."""
    cpus, gpus = (has.cpus, has.gpus) if has is not None else (None, None)
    return room_of(
        settings.max_running,
        cpus if settings.cpus is None else settings.cpus,
        gpus if settings.gpus is None else settings.gpus,
    )


def next_job(session: Session, settings: Settings, now: int, has: Capacity | None = None) -> Job | None:
    """The job to claim, locked; None if none may start. The caller is the only one who claims."""
    total = room_in(settings, has)
    running = running_now(session)
    if len(running) >= total.attempts:
        return None
    # Nobody holds up others by having many jobs.
    sated = at_their_limit(running, settings.tenant_running)
    found = room_in(replace(settings, cpus=None, gpus=None), has)
    for most in LOOKS:
        line = _line(session, now, found=found, without=sated, most=most)
        all_of_it = len(line) < most
        while (chosen := choose(line, running, total, now=now, pass_ms=settings.pass_seconds * 1000)) is not None:
            # Somebody is just pausing or cancelling a row that is locked: the next of the line then.
            query = select(Job).where(Job.id == chosen.job_id, Job.state == JobState.QUEUED)
            job = session.scalars(query.with_for_update(skip_locked=True)).one_or_none()
            if job is not None:
                return job
            line.remove(chosen)
        if all_of_it:
            break
    return None


def announce(session: Session, settings: Settings, dispatcher_id: str, place: str, has: Capacity | None = None) -> None:
    """A dispatcher is there, and this is what it gives out. Who died long ago without a word is forgotten."""
    now, room = clock(session), room_in(settings, has)
    session.execute(delete(DispatcherRow).where(DispatcherRow.seen_at < now - FORGOTTEN_MS))
    session.merge(
        DispatcherRow(
            id=dispatcher_id,
            place=place,
            max_running=settings.max_running,
            tenant_running=settings.tenant_running,
            cpus=None if room.cpus == inf else room.cpus,
            gpus=None if room.gpus == inf else room.gpus,
            found_cpus=has and has.cpus,
            found_gpus=has and has.gpus,
            seen_at=now,
        )
    )
    session.flush()


def withdraw(session: Session, dispatcher_id: str) -> None:
    """It takes nothing more from the queue."""
    session.execute(delete(DispatcherRow).where(DispatcherRow.id == dispatcher_id))


def places(session: Session) -> set[str]:
    """Where dispatchers look after their attempts now."""
    recent = DispatcherRow.seen_at > clock(session) - PRESENT_MS
    return set(session.scalars(select(DispatcherRow.place).where(recent)))


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the dispatchers that are there give out."""

    now: int
    total: Room | None  # None if there is none
    found: Room  # what the places were found to have
    tenant_running: int | None = None  # attempts of one tenant at once


def given_out(session: Session) -> Given:
    there = session.connection().execute(_GIVEN_OUT).one()
    if not there.dispatchers:
        return Given(now=there.now, total=None, found=BOUNDLESS)

    def most(what: str) -> float | None:
        """Who has no limit is not counted among those who have one."""
        counted, largest = getattr(there, f"with_{what}"), getattr(there, f"most_{what}")
        return largest if counted == there.dispatchers else None

    return Given(
        now=there.now,
        total=room_of(there.most_running, most("cpus"), most("gpus")),
        found=room_of(there.most_running, most("found_cpus"), most("found_gpus")),
        tenant_running=None if (limit := most("tenant_running")) is None else int(limit),
    )


_GIVEN_OUT = select(
    now_ms().label("now"),
    func.count().label("dispatchers"),
    func.max(DispatcherRow.max_running).label("most_running"),
    *(func.count(getattr(DispatcherRow, what)).label(f"with_{what}") for what in _LIMITS),
    *(func.max(getattr(DispatcherRow, what)).label(f"most_{what}") for what in _LIMITS),
).where(DispatcherRow.seen_at > now_ms() - PRESENT_MS)


def at_their_limit(running: Iterable[Running], most: int | None) -> set[str]:
    """Tenants of whose jobs as many run as may."""
    if most is None:
        return set()
    return {tenant for tenant, count in Counter(one.tenant for one in running).items() if count >= most}


def needs(job: Job | Standing, found: Room) -> Room:
    """A job that has begun makes do with what a cluster has left, should that be less than it had then."""
    if job.started_at is None:
        return Room(cpus=job.cpus, gpus=job.gpus)
    # Of what there is none at all, none is left to make do with.
    return Room(cpus=min(job.cpus, found.cpus) or job.cpus, gpus=min(job.gpus, found.gpus) or job.gpus)


def _line(session: Session, now: int, *, found: Room, without: Collection[str], most: int) -> list[Waiting]:
    """The first so many, read in the order of their index: however many stand behind them costs nothing."""
    due = select(Job.id, Job.tenant, Job.priority, Job.cpus, Job.gpus, Job.started_at, Job.not_before).where(*_due(now))
    if without:
        due = due.where(Job.tenant.not_in(without))
    rows = session.execute(due.order_by(Job.priority.desc(), Job.id).limit(most))
    return [Waiting(job_id=row.id, needs=needs(row, found), since=row.not_before) for row in rows]


def running_now(session: Session) -> list[Running]:
    return [
        Running(takes=takes(row), since=row.since, tenant=row.tenant) for row in session.connection().execute(TAKING)
    ]


def takes(row: Job | Taking) -> Room:
    return Room(cpus=row.cpus, gpus=row.gpus)


# Live attempts, and ended ones whose processes may still be there: who comes next would share with them.
TAKING = (
    select(
        *(Job.id, Job.tenant, Job.priority, Job.not_before, Job.cpus, Job.gpus, Attempt.created_at.label("since")),
        # A job that is starting is queued by its own state.
        and_(Job.state == JobState.QUEUED, Attempt.state.in_(LIVE)).label("starting"),
    )
    .join(Attempt)
    .where(or_(Attempt.state.in_(LIVE), and_(Attempt.state.in_(ENDS), Attempt.handle.is_not(None))))
)


def _due(now: int) -> tuple[ColumnElement[bool], ...]:
    live = exists().where(Attempt.job_id == Job.id, Attempt.state.in_(LIVE))
    return (Job.state == JobState.QUEUED, Job.not_before <= now, ~live)
