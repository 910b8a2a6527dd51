"""Rows as their public representations: one function for each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.schemas import ArtifactView, AttemptView, EpisodeView, EventView, JobView, Links
from purlkit.results import Progress
from services import attempts, scheduling, tables
from services.states import JobState


def job_views(session: Session, rows: Sequence[tables.Job]) -> list[JobView]:
    history = attempts.history(session, [row.id for row in rows])
    return [_job_view(session, row, history[row.id]) for row in rows]


def job_view(session: Session, row: tables.Job) -> JobView:
    return job_views(session, [row])[0]


def _job_view(session: Session, job: tables.Job, tries: Sequence[tables.Attempt]) -> JobView:
    return JobView.model_validate(
        {
            "id": job.id,
            "name": job.name,
            "state": job.state,
            "requested": job.requested,
            "phase": job.phase,
            "pending_reason": scheduling.pending_reason(session, job),
            "queue_position": scheduling.queue_position(session, job),
            "spec": job.spec,
            "fingerprint": job.fingerprint,
            "progress": _progress(job),
            "attempts": [_attempt_view(attempt) for attempt in tries],
            "result": _result(job),
            "error": job.error,
            "created_at": moment(job.created_at),
            "started_at": maybe_moment(job.started_at),
            "finished_at": maybe_moment(job.finished_at),
            "last_heartbeat_at": maybe_moment(job.last_heartbeat_at),
            "links": _links(job),
        }
    )


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


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def maybe_moment(ms: int | None) -> datetime | None:
    return None if ms is None else moment(ms)


def _attempt_view(attempt: tables.Attempt) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        state=attempt.state,
        started_at=maybe_moment(attempt.started_at),
        ended_at=maybe_moment(attempt.ended_at),
        reason=attempt.reason,
        cause=attempt.cause,
    )


def _progress(job: tables.Job) -> Progress | None:
    try:
        return None if job.progress is None else Progress.model_validate(job.progress, strict=False)
    except ValidationError:
        return None


def _result(job: tables.Job) -> tables.Json | None:
    """With the addresses of its checkpoints; what another version stored may lack points."""
    checkpoint = job.result and job.result.get("checkpoint")
    if not job.result or not isinstance(checkpoint, dict):
        return job.result
    href = f"/jobs/{job.id}/checkpoint"
    points = [
        {**point, "checkpoint": {**point["checkpoint"], "href": f"{href}?sparsity={point['target']!r}"}}
        for point in job.result.get("points", ())
    ]
    told = {"checkpoint": {**checkpoint, "href": href}}
    return {**job.result, **told, **({"points": points} if points else {})}


def _links(job: tables.Job) -> Links:
    here = f"/jobs/{job.id}"
    return Links(
        self=here,
        events=f"{here}/events",
        episodes=f"{here}/episodes",
        artifacts=f"{here}/artifacts",
        checkpoint=f"{here}/checkpoint" if job.state is JobState.SUCCEEDED else None,
    )
