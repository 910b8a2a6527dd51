"""Where queued jobs stand in the line and what each waits for: a few questions, however many are asked about.

The line is that of services.scheduling. Who is to start later, or could never start, does not stand in it; and of each
tenant there stand only as many as its limit would let start.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Double, Row, String, and_, bindparam, func, literal, or_, select, union_all
from sqlalchemy.orm import Session

from services.scheduling import BOUNDLESS, ROUNDING, TAKING, Given, Room, Standing, Taking, given_out, needs, takes
from services.states import JobState
from services.tables import Attempt, Job


@dataclass(frozen=True, kw_only=True)
class Outlook:
    position: int | None = None  # 1 is next; none for a job that waits for nothing in the line
    reason: str | None = None  # why it does not move, for a person; none when it does, or has ended


MOVES = Outlook()


@dataclass(frozen=True, kw_only=True)
class _Stands:
    """Where a job stands, and what of its own tenant's is before it."""

    position: int | None = None
    own_ahead: int = 0
    own_running: int = 0
    held_back: bool = False  # by its tenant's limit: it does not stand in the line yet


ALONE = _Stands()

Place = tuple[int, str]  # sorts as the line does

# How far behind the first of the jobs the others are looked for.
NEARBY = 500

# Those that have begun may stand in the line all the same, should a cluster have less by now than they reserve.
MOST_SHRUNK = 1000

_priority, _id = bindparam("priority", type_=BigInteger), bindparam("id", type_=String)
_standing = (
    Job.state == JobState.QUEUED,
    Job.not_before <= bindparam("now", type_=BigInteger),
    Job.cpus <= bindparam("cpus", type_=Double),
    Job.gpus <= bindparam("gpus", type_=Double),
)
_more_urgent, _older = Job.priority > _priority, and_(Job.priority == _priority, Job.id < _id)
_ALL = ""  # in place of a tenant, where tenants make no difference
_AHEAD = union_all(*(select(literal(_ALL), func.count()).where(*_standing, one) for one in (_more_urgent, _older)))
_AHEAD_OF_EACH_TENANT = union_all(
    *(select(Job.tenant, func.count()).where(*_standing, one).group_by(Job.tenant) for one in (_more_urgent, _older))
)
_FROM_HERE = (
    select(Job.id, Job.priority, Job.tenant)
    .where(*_standing, or_(Job.priority < _priority, and_(Job.priority == _priority, Job.id >= _id)))
    .order_by(Job.priority.desc(), Job.id)
    .limit(NEARBY)
)
_BEGUN_AND_LARGER = (
    select(Job.id, Job.tenant, Job.priority, Job.cpus, Job.gpus, Job.started_at, Job.not_before)
    .where(Job.state == JobState.QUEUED, Job.not_before <= bindparam("now", type_=BigInteger))
    .where(or_(Job.cpus > bindparam("cpus", type_=Double), Job.gpus > bindparam("gpus", type_=Double)))
    .where(Job.started_at.is_not(None))
    .order_by(Job.priority.desc(), Job.id)
    .limit(MOST_SHRUNK)
)


def of(session: Session, jobs: Sequence[Job], live: Mapping[str, Attempt]) -> dict[str, Outlook]:
    """For each of the jobs, given their live attempts."""
    found = {job.id: _beside_the_queue(job, live.get(job.id)) for job in jobs}
    queue = [job for job in jobs if found[job.id] is None]
    if queue:
        found |= _in_queue(session, queue)
    return {job_id: outlook or MOVES for job_id, outlook in found.items()}


def _beside_the_queue(job: Job, attempt: Attempt | None) -> Outlook | None:
    """None for a job that waits in the queue."""
    if job.state is JobState.PAUSED:
        return Outlook(reason="paused: resume it to go on")
    if job.requested is not None:
        return Outlook(reason=f"{job.requested} was asked for: waiting for the attempt to answer, or its lease to end")
    if job.state is JobState.RUNNING:
        return Outlook(reason=(job.progress or {}).get("waits_for"))
    if job.state is not JobState.QUEUED:
        return MOVES
    return None if attempt is None else Outlook(reason=f"attempt {attempt.number} is starting")


def _in_queue(session: Session, queue: Sequence[Job]) -> dict[str, Outlook]:
    given = given_out(session)
    now, room = given.now, given.total or BOUNDLESS
    line = sorted((job for job in queue if job.not_before <= now and room.holds(needs(job, given.found))), key=_place)
    taking = session.connection().execute(TAKING).all() if line else ()
    stand = _stand(session, line, taking, given, room) if line else {}
    running = [takes(one) for one in taking]
    return {
        job.id: Outlook(position=stands.position, reason=_why(job, stands, running, given))
        for job in queue
        for stands in [stand.get(job.id, ALONE)]
    }


def _why(job: Job, stands: _Stands, running: Sequence[Room], given: Given) -> str:
    """What would hold it longest comes first."""
    needed, total, now = needs(job, given.found), given.total, given.now
    if job.not_before > now:
        wait = math.ceil((job.not_before - now) / 1000)
        return f"retry in {wait} s after: {job.waiting_for or 'an earlier attempt'}"
    if total is None:
        return "no dispatcher is running: start the service, or look at why it stopped"
    lacking = total.lacks(needed)
    if lacking is not None:
        need, have = getattr(needed, lacking), getattr(total, lacking)
        set_by = f"PURL_{lacking.upper()}, or what the Ray cluster has"
        return f"it reserves {need:g} {lacking.upper()} and there are {have:g} in all ({set_by})"
    if stands.held_back:
        limit = f"of your jobs {given.tenant_running} may run at once (PURL_TENANT_RUNNING)"
        ahead = f" and {stands.own_ahead} ahead of it" if stands.own_ahead else ""
        return f"{limit}: {stands.own_running} running{ahead}"
    if stands.position is not None and stands.position > 1:
        return f"waiting for {_jobs(stands.position - 1)} ahead"
    free = total.minus(running)
    lacking = free.lacks(needed)
    if lacking in ("cpus", "gpus"):
        need, left, all_of = getattr(needed, lacking), max(0.0, getattr(free, lacking)), getattr(total, lacking)
        return f"next in the queue; it reserves {need:g} {lacking.upper()} and {left:g} of {all_of:g} are free"
    return f"next in the queue; {_jobs(len(running))} running" if running else "next in the queue"


def _stand(
    session: Session, line: Sequence[Job], taking: Sequence[Taking], given: Given, room: Room
) -> dict[str, _Stands]:
    """The first is counted up to, and those behind it are read from there: of all tenants, whoever asks."""
    ask = session.connection().execute
    standing = {"now": given.now, "cpus": room.cpus + ROUNDING, "gpus": room.gpus + ROUNDING}
    # Those that are starting are queued by state, and stand in the line no more.
    gone = {_place(one) for one in taking if one.starting}
    counted_too = [one for one in taking if one.starting and one.not_before <= given.now and room.holds(takes(one))]
    shrunk: dict[Place, str] = {}
    if not given.found.holds(BOUNDLESS):
        larger = {_place(one): one for one in ask(_BEGUN_AND_LARGER, standing)}
        shrunk = {
            place: one.tenant
            for place, one in larger.items()
            if place not in gone and room.holds(needs(one, given.found))
        }

    def whose(tenant: str) -> str:
        return _ALL if given.tenant_running is None else tenant

    def from_here(job: Job) -> _Line:
        place, ahead = _place(job), Counter[str]()
        counting = _AHEAD if given.tenant_running is None else _AHEAD_OF_EACH_TENANT
        for tenant, count in ask(counting, {**standing, **_named(job)}):
            ahead[tenant] += count
        ahead.subtract(whose(one.tenant) for one in counted_too if _place(one) < place)
        ahead.update(whose(tenant) for other, tenant in shrunk.items() if other < place)
        return _Line(ahead, Counter(whose(one.tenant) for one in taking), given.tenant_running)

    first = line[0]
    walk = from_here(first)
    if len(line) == 1:
        return {first.id: walk.next_of(whose(first.tenant))}
    read = {_place(row): row.tenant for row in ask(_FROM_HERE, {**standing, **_named(first)})}
    end = max(read) if len(read) == NEARBY else max([*read, *shrunk], default=_place(first))
    here = read | {place: tenant for place, tenant in shrunk.items() if _place(first) <= place <= end}
    nearby = {place[1]: walk.next_of(whose(here[place])) for place in sorted(here.keys() - gone)}
    return {job.id: nearby.get(job.id) or from_here(job).next_of(whose(job.tenant)) for job in line}


class _Line:
    """What is ahead of a place in it. Of each tenant only so many stand there as may run beside those that do."""

    def __init__(self, ahead: Counter[str], running: Counter[str], most_of_a_tenant: int | None) -> None:
        self._ahead, self._running = ahead, running
        self._most = math.inf if most_of_a_tenant is None else most_of_a_tenant
        self._standing = sum(int(min(count, self._may_start(tenant))) for tenant, count in ahead.items())

    def next_of(self, tenant: str) -> _Stands:
        """The job at this place; the place is behind it then."""
        ahead = self._ahead[tenant]
        self._ahead[tenant] += 1
        held_back = ahead >= self._may_start(tenant)
        if not held_back:
            self._standing += 1
        return _Stands(
            position=None if held_back else self._standing,
            own_ahead=ahead,
            own_running=self._running[tenant],
            held_back=held_back,
        )

    def _may_start(self, tenant: str) -> float:
        return max(0, self._most - self._running[tenant])


def _place(job: Job | Taking | Standing | Row[str, int, str]) -> Place:
    return -job.priority, job.id


def _named(job: Job) -> dict[str, object]:
    return {"priority": job.priority, "id": job.id}


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
