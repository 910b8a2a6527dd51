"""Rows as their public representations: one function for each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from api.schemas import ArtifactView, AttemptView, CandidateLayers, EpisodeView, EventView, JobView, Links, ResultView
from purlkit.results import Progress, Result
from services import attempts, jobs, tables
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
            "parent": job.parent,
            "state": job.state,
            "requested": job.requested,
            "phase": job.phase,
            "pending_reason": jobs.pending_reason(session, job),
            "queue_position": jobs.queue_position(session, job),
            "spec": job.spec,
            "fingerprint": job.fingerprint,
            "progress": job.progress and Progress.model_validate(job.progress, strict=False),
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


def episode_view(row: tables.EpisodeRow) -> EpisodeView:
    return EpisodeView.model_validate({**row.data, "attempt": row.attempt})


def artifact_view(artifact: tables.Artifact) -> ArtifactView:
    return ArtifactView(
        name=artifact.name,
        sha256=artifact.sha256,
        bytes=artifact.bytes,
        media_type=artifact.media_type,
        created_at=moment(artifact.created_at),
        href=f"/jobs/{artifact.job_id}/artifacts/{artifact.name}",
    )


def layer_views(job: tables.Job) -> list[CandidateLayers]:
    result = Result.model_validate(job.result)
    return [
        CandidateLayers(
            method=candidate.method,
            variant=candidate.variant,
            winner=(candidate.method, candidate.variant) == (result.winner.method, result.winner.variant),
            sparsity=candidate.sparsity,
            layers=list(candidate.layers),
        )
        for candidate in result.candidates
    ]


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
        log=f"/jobs/{attempt.job_id}/attempts/{attempt.number}/log",
    )


def _result(job: tables.Job) -> ResultView | None:
    if job.result is None:
        return None
    checkpoint = {**job.result["checkpoint"], "href": f"/jobs/{job.id}/checkpoint"}
    return ResultView.model_validate({**job.result, "checkpoint": checkpoint})


def _links(job: tables.Job) -> Links:
    here = f"/jobs/{job.id}"
    return Links(
        self=here,
        events=f"{here}/events",
        episodes=f"{here}/episodes",
        artifacts=f"{here}/artifacts",
        layers=f"{here}/layers" if job.state is JobState.SUCCEEDED else None,
        checkpoint=f"{here}/checkpoint" if job.state is JobState.SUCCEEDED else None,
    )
