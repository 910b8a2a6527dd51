"""Rows as their public representations: one function for each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from api.schemas import ArtifactView, CandidateLayers, EpisodeView, EventView
from purlkit.results import Progress, Result
from services import attempts, jobs, listing, outlook, tables
from services.errors import NotFound
from services.listing import Entry
from services.outlook import Outlook
from services.states import LIVE, JobState

# A few kilobytes each.
ENDED_KEPT = 2000

_NO_PROGRESS = dict.fromkeys(Progress.model_fields)

_BY_ID = select(tables.Job).where(tables.Job.id.in_(bindparam("ids", expanding=True)))


class JobsJson:
    """Jobs as JobView's JSON. An ended job never changes, so what was said of it once is said again."""

    def __init__(self, *, most: int = ENDED_KEPT) -> None:
        self._most = most
        self._ended: OrderedDict[str, tuple[int, bytes]] = OrderedDict()  # by id, with the version
        self._lock = Lock()

    def one(self, session: Session, job_id: str) -> bytes:
        if job_id in self._ended:
            found = self.of(session, [listing.entry(session, job_id)])
            if not found:
                raise NotFound("job")
            return found[0]
        job = jobs.get(session, job_id)
        view = job_view(session, job)
        if job.state.is_terminal:
            self._keep({job_id: (job.version, view)})
        return view

    def of(self, session: Session, entries: Sequence[Entry]) -> list[bytes]:
        """In the order of the entries; one that is deleted this very moment is left out."""
        with self._lock:
            kept = {entry.id: self._ended.get(entry.id) for entry in entries}
        known = {entry.id: said[1] for entry in entries if (said := kept[entry.id]) and said[0] == entry.version}
        unknown = [entry.id for entry in entries if entry.id not in known]
        if unknown:
            rows = session.scalars(_BY_ID, {"ids": unknown}).all()
            fresh = dict(zip((job.id for job in rows), job_views(session, rows), strict=True))
            known |= fresh
            self._keep({job.id: (job.version, fresh[job.id]) for job in rows if job.state.is_terminal})
        return [known[entry.id] for entry in entries if entry.id in known]

    def drop(self, job_id: str) -> None:
        """The job is deleted."""
        with self._lock:
            self._ended.pop(job_id, None)

    def _keep(self, ended: dict[str, tuple[int, bytes]]) -> None:
        with self._lock:
            self._ended |= ended
            while len(self._ended) > self._most:
                self._ended.popitem(last=False)


def job_views(session: Session, rows: Sequence[tables.Job]) -> list[bytes]:
    """Made of what is stored as it is: to read each record again would cost more than all else."""
    history = attempts.history(session, [job.id for job in rows])
    live = {job_id: tries[-1] for job_id, tries in history.items() if tries and tries[-1].state in LIVE}
    outlooks = outlook.of(session, rows, live)
    return [to_json(_job_view(job, history[job.id], outlooks[job.id])) for job in rows]


def job_view(session: Session, job: tables.Job) -> bytes:
    return job_views(session, [job])[0]


def new_job_view(session: Session, job: tables.Job) -> bytes:
    """Of a job that this transaction has made: it has no attempts yet."""
    return to_json(_job_view(job, (), outlook.of(session, [job], {})[job.id]))


def page_of(items: Sequence[bytes], *, has_more: bool, next: str | None) -> bytes:
    """A Page of items that are JSON already."""
    return b'{"data":[' + b",".join(items) + b'],"has_more":' + to_json(has_more) + b',"next":' + to_json(next) + b"}"


def _job_view(job: tables.Job, tries: Sequence[tables.Attempt], stands: Outlook) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "parent": job.parent,
        "sweep": job.sweep_id,
        "state": job.state,
        "requested": job.requested,
        "phase": job.phase,
        "pending_reason": stands.reason,
        "queue_position": stands.position,
        "spec": job.spec,
        "fingerprint": job.fingerprint,
        "progress": job.progress and {**_NO_PROGRESS, **job.progress},
        "attempts": [_attempt_view(attempt) for attempt in tries],
        "result": _result(job),
        "error": job.error,
        "created_at": moment(job.created_at),
        "started_at": maybe_moment(job.started_at),
        "finished_at": maybe_moment(job.finished_at),
        "last_heartbeat_at": maybe_moment(job.last_heartbeat_at),
        "links": _links(job),
    }


def event_view(event: tables.Event) -> EventView:
    return EventView(
        seq=event.seq, type=event.type, at=moment(event.created_at), attempt=event.attempt_id, data=event.data
    )


def episode_view(row: tables.EpisodeRow) -> EpisodeView | dict[str, Any]:
    stored = {**row.data, "attempt": row.attempt}
    try:
        return EpisodeView.model_validate(stored)
    except ValidationError:
        return stored


def artifact_view(artifact: tables.Artifact) -> ArtifactView:
    return ArtifactView(
        name=artifact.name,
        sha256=artifact.sha256,
        bytes=artifact.bytes,
        media_type=artifact.media_type,
        created_at=moment(artifact.created_at),
        href=f"/jobs/{artifact.job_id}/artifacts/{artifact.name}",
    )


def layer_views(job: tables.Job) -> list[CandidateLayers] | None:
    """None where another version of the program stored the result, and this one can't read it."""
    try:
        result = Result.model_validate(job.result)
    except ValidationError:
        return None
    winners = {point.target: (point.winner.method, point.winner.variant) for point in result.points}
    return [
        CandidateLayers(
            method=candidate.method,
            variant=candidate.variant,
            target=candidate.target,
            winner=(candidate.method, candidate.variant) == winners[candidate.target],
            sparsity=candidate.sparsity,
            layers=list(candidate.layers),
        )
        for candidate in result.candidates
    ]


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def maybe_moment(ms: int | None) -> datetime | None:
    return None if ms is None else moment(ms)


def job_path(job: tables.Job) -> str:
    return f"/jobs/{job.id}"


def _attempt_view(attempt: tables.Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "state": attempt.state,
        "started_at": maybe_moment(attempt.started_at),
        "ended_at": maybe_moment(attempt.ended_at),
        "reason": attempt.reason,
        "cause": attempt.cause,
        "log": f"/jobs/{attempt.job_id}/attempts/{attempt.number}/log",
    }


def _result(job: tables.Job) -> dict[str, Any] | None:
    """With where its checkpoints are. What another version stored otherwise is shown as it was stored."""
    result = job.result
    if not result or not isinstance(result.get("checkpoint"), dict):
        return result
    href = f"{job_path(job)}/checkpoint"
    told = {**result, "checkpoint": {**result["checkpoint"], "href": href}}
    points = result.get("points")
    if isinstance(points, list) and all(map(is_point, points)):
        told["points"] = [
            {**point, "checkpoint": {**point["checkpoint"], "href": href + _which(point)}} for point in points
        ]
    return told


def is_point(stored: Any) -> bool:
    """Whether this version can lead to its checkpoint."""
    return (
        isinstance(stored, dict)
        and isinstance(stored.get("target"), float)
        and isinstance(stored.get("checkpoint"), dict)
    )


def is_of_sparsity(point: dict[str, Any]) -> bool:
    return bool(point.get("goal", "sparsity") == "sparsity")


def _which(point: dict[str, Any]) -> str:
    return f"?sparsity={point['target']!r}" if is_of_sparsity(point) else ""


def _links(job: tables.Job) -> dict[str, str | None]:
    here, succeeded = job_path(job), job.state is JobState.SUCCEEDED
    return {
        "self": here,
        "events": f"{here}/events",
        "episodes": f"{here}/episodes",
        "artifacts": f"{here}/artifacts",
        "layers": f"{here}/layers" if succeeded else None,
        "checkpoint": f"{here}/checkpoint" if succeeded else None,
        "report": f"{here}/report" if succeeded else None,
    }
