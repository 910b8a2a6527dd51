"""What happened to a job, as its page tells of it: the walks of the search, the race, the latest events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.dashboard.charts import Walk
from api.dashboard.rows import dig, number
from api.represent import moment
from purlkit.report.svg import Point
from purlkit.sentence import NAMES
from services.tables import EpisodeRow, Event

# A chart has no more pixels than that; of a longer search every k-th episode is drawn.
WALKS_DRAWN = 1000

EVENTS_SHOWN = 40
RACE_EVENTS = 500


@dataclass(frozen=True, kw_only=True)
class Rung:
    """How the candidates of one target stood after so many epochs."""

    target: float
    epochs: int
    of_epochs: int
    standings: tuple[tuple[str, float | None, bool], ...]  # name, accuracy, whether it goes on


@dataclass(frozen=True, kw_only=True)
class Happening:
    """An event as a line."""

    seq: int
    at: str
    says: str


def walks(session: Session, job_id: str, kind: str = "search") -> list[Walk]:
    held = (EpisodeRow.job_id == job_id, EpisodeRow.kind == kind)
    count = session.scalar(select(func.count()).where(*held)) or 0
    step = count // WALKS_DRAWN + 1
    query = select(EpisodeRow.index, EpisodeRow.data).where(*held, EpisodeRow.index % step == 0)
    found = (_walk(index, data) for index, data in session.execute(query.order_by(EpisodeRow.index)))
    return [walk for walk in found if walk is not None]


def _walk(index: int, data: dict[str, Any]) -> Walk | None:
    """None for one that another version stored otherwise, or that ended before its first layer."""
    try:
        return Walk(
            index=index,
            accuracy=float(data["accuracies"][-1]),
            sparsity=float(data["sparsities"][-1]),
            earned=float(sum(data["rewards"])),
            actions=tuple(int(action) for action in data["actions"]),
        )
    except (LookupError, TypeError, ValueError):
        return None


def last_seq(session: Session, job_id: str) -> int:
    return session.scalar(select(func.max(Event.seq)).where(Event.job_id == job_id)) or 0


def latest(session: Session, job_id: str) -> list[Happening]:
    """The newest first."""
    query = select(Event).where(Event.job_id == job_id).order_by(Event.seq.desc()).limit(EVENTS_SHOWN)
    return [
        Happening(seq=event.seq, at=moment(event.created_at).isoformat(), says=_says(event.type, event.data))
        for event in session.scalars(query)
    ]


def rungs(session: Session, job_id: str) -> list[Rung]:
    told = (Event.job_id == job_id, Event.type == "rung")
    return rungs_of(session.scalars(select(Event.data).where(*told).order_by(Event.seq.desc()).limit(RACE_EVENTS)))


def rungs_of(latest_first: Iterable[dict[str, Any]]) -> list[Rung]:
    """An attempt that goes on with a race tells some of it again: the latest word on each rung counts."""
    found: dict[tuple[float, int], Rung] = {}
    for data in latest_first:
        rung = _rung(data)
        if rung is not None:
            found.setdefault((rung.target, rung.epochs), rung)
    return [found[key] for key in sorted(found)]


def racing(held: Sequence[Rung]) -> dict[str, list[Point]]:
    """Of one target: each candidate's accuracies over epochs."""
    curves: dict[str, list[Point]] = {}
    for rung in held:
        for name, accuracy, _ in rung.standings:
            if accuracy is not None:
                curves.setdefault(name, []).append((float(rung.epochs), accuracy))
    return curves


def _rung(data: dict[str, Any]) -> Rung | None:
    try:
        return Rung(
            target=float(data["target"]),
            epochs=int(data["epochs"]),
            of_epochs=int(data["of_epochs"]),
            standings=tuple(
                (name_of(one), number(one.get("select_accuracy")), bool(one.get("goes_on")))
                for one in data["candidates"]
            ),
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def name_of(candidate: dict[str, Any]) -> str:
    method, variant = str(candidate["method"]), candidate.get("variant")
    name = NAMES.get(method, method)
    return f"{name}, {variant}" if variant else name


def _says(type: str, data: dict[str, Any]) -> str:
    if type == "state":
        before = f" (was {data['before']})" if data.get("before") else ""
        return f"{data.get('state')}{before}" + (f": {data['reason']}" if data.get("reason") else "")
    if type == "attempt":
        return f"attempt {data.get('number')} {data.get('state')}" + (
            f": {data['reason']}" if data.get("reason") else ""
        )
    if type == "request":
        return f"{data.get('request')} was asked for"
    if type == "phase":
        return f"phase: {data.get('phase')}"
    if type == "episode":
        return _episode(data)
    if type == "rung":
        return f"race: {len(data.get('candidates') or ())} candidates after {data.get('epochs')} epochs"
    if type == "candidate" and "method" in data:
        return f"candidate: {name_of(data)}, {_share(data.get('accuracy'))} at {_share(data.get('sparsity'))}"
    return f"{type}: " + ", ".join(f"{key} {value}" for key, value in data.items())[:300]


def _episode(data: dict[str, Any]) -> str:
    walk = _walk(0, data)
    if walk is None:
        return "an episode"
    kind, index = dig(data, "kind"), number(dig(data, "index")) or 0
    ended = f"accuracy {_share(walk.accuracy)}, sparsity {_share(walk.sparsity)}, return {walk.earned:.3g}"
    return f"{'greedy episode' if kind == 'greedy' else 'episode'} {index + 1:g}: {ended}"


def _share(value: Any) -> str:
    share = number(value)
    return "?" if share is None else f"{100 * share:.2f} %"
