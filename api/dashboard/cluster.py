"""Who runs jobs, what they give out and what of it is taken, and the line with what each job waits for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from api.dashboard.rows import rows
from api.deps import Parts
from api.represent import moment
from services import overview, scheduling
from services.scheduling import PRESENT_MS
from services.states import JobState

# More than that nobody reads; the counts say how many there are.
JOBS_SHOWN = 100


@dataclass(frozen=True, kw_only=True)
class Dispatcher:
    place: str
    present: bool
    seen_at: str
    gives: str


@dataclass(frozen=True, kw_only=True)
class Share:
    """How much of something is taken."""

    name: str
    taken: float
    total: float | None  # None: not counted; 0: nobody gives any out


def of(parts: Parts) -> dict[str, Any]:
    """The template's values. A cluster is asked for its nodes; a machine that runs jobs by itself is a dispatcher."""
    place = parts.launcher.capacity()
    with parts.db.read() as session:
        given = scheduling.given_out(session)
        now, total = given.now, given.total
        running = scheduling.running_now(session)
        taken = {
            "attempts": float(len(running)),
            "cpus": sum(one.takes.cpus for one in running),
            "gpus": sum(one.takes.gpus for one in running),
        }
        return {
            "dispatchers": [
                Dispatcher(
                    place=one.place,
                    present=one.seen_at > now - PRESENT_MS,
                    seen_at=moment(one.seen_at).isoformat(),
                    gives=_gives(one.max_running, one.cpus, one.gpus),
                )
                for one in overview.dispatchers(session)
            ],
            "shares": [
                Share(name=name, taken=taken[kind], total=_countable(getattr(total, kind)) if total else 0.0)
                for kind, name in (("attempts", "jobs at once"), ("cpus", "CPUs"), ("gpus", "GPUs"))
            ],
            "counts": overview.counts(session),
            "running": rows(parts.jobs_json.of(session, overview.in_line(session, JobState.RUNNING, most=JOBS_SHOWN))),
            "queue": rows(parts.jobs_json.of(session, overview.in_line(session, JobState.QUEUED, most=JOBS_SHOWN))),
            "asked": parts.settings.ray_address.startswith("http"),
            "nodes": place.nodes if place else (),
            "ray_address": parts.settings.ray_address,
        }


def _countable(amount: float) -> float | None:
    return None if math.isinf(amount) else amount


def _gives(attempts: int, cpus: float | None, gpus: float | None) -> str:
    said = [f"{attempts} {'job' if attempts == 1 else 'jobs'} at once"]
    said += [f"{amount:g} {name}" for amount, name in ((cpus, "CPUs"), (gpus, "GPUs")) if amount is not None]
    return ", ".join(said)
