"""What a job leaves behind: its search history and its files."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Query, Request, Response

from api import docs
from api.deps import DatabaseDep, StoreDep
from api.downloads import send
from api.errors import Problem
from api.represent import artifact_view, episode_view, is_of_sparsity, is_point, layer_views
from api.router import Router
from api.schemas import ArtifactView, CandidateLayers, EpisodeView, Listing, Page, Stored
from purlkit.results import CHECKPOINT
from services import artifacts, episodes, jobs
from services.errors import NotFound

router = Router(prefix="/jobs", tags=["results"])

# What no artifact can be called is not looked for: PostgreSQL refuses a NUL even in a question.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
Redirect = Annotated[bool, Query(description="to the store itself, where it is S3: an address for ten minutes")]

_DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {**_BYTES, "description": "the file; its ETag is its sha256"},
    206: {**_BYTES, "description": "the part that Range asked for"},
    307: {"description": "with `redirect`, and only if the files are in S3"},
    304: {"description": "the file is the one of If-None-Match"},
    **docs.problems(p404="there is no such job or file", p416="the file has no such bytes"),
}


@router.get("/{job_id}/episodes", summary="The search, episode by episode", responses=docs.problems(p404=docs.NO_JOB))
def list_episodes(
    job_id: str,
    db: DatabaseDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="episodes per page")] = 100,
    after: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
) -> Page[Stored[EpisodeView]]:
    """Those that the agent learnt from first, then the greedy ones of the trained policy."""
    with db.read() as session:
        jobs.get(session, job_id)
        page = episodes.page(session, job_id, after=after, limit=limit)
        return Page(data=[episode_view(row) for row in page.items], has_more=page.has_more, next=page.next)


@router.get(
    "/{job_id}/layers",
    summary="The raced networks, layer by layer",
    responses=docs.problems(p404="there is no such job, or it has not succeeded"),
)
def list_layers(job_id: str, db: DatabaseDep) -> Listing[CandidateLayers]:
    """How many weights each layer has and keeps, for every candidate of the race, the winner among them."""
    with db.read() as session:
        job = jobs.get(session, job_id)
        if job.result is None:
            raise Problem(404, "no_result", f"the job is {job.state}: layers are there once it has succeeded")
        layers = layer_views(job)
    if layers is None:
        raise Problem(
            404, "no_result", "another version of the program stored the result: GET /jobs/{id} shows it as is"
        )
    return Listing(data=layers)


@router.get("/{job_id}/artifacts", summary="The job's files", responses=docs.problems(p404=docs.NO_JOB))
def list_artifacts(job_id: str, db: DatabaseDep) -> Listing[ArtifactView]:
    """The log is there from the first attempt on and grows; everything else appears when an attempt has finished."""
    with db.read() as session:
        jobs.get(session, job_id)
        return Listing(data=[artifact_view(artifact) for artifact in artifacts.list_published(session, job_id)])


@router.get("/{job_id}/artifacts/{name}", summary="One file", response_class=Response, responses=_DOWNLOAD)
def get_artifact(
    job_id: str, name: str, request: Request, db: DatabaseDep, store: StoreDep, redirect: Redirect = False
) -> Response:
    """Takes Range, If-Range and If-None-Match."""
    with db.read() as session:
        jobs.get(session, job_id)
        if _NAME.fullmatch(name) is None:
            raise NotFound("artifact")
        found = artifacts.find(session, job_id, name)
    return send(
        request,
        store,
        sha256=found.sha256,
        size=found.bytes,
        media_type=found.media_type,
        filename=found.name,
        redirect=redirect,
    )


@router.get("/{job_id}/checkpoint", summary="A winner's pruned network", response_class=Response, responses=_DOWNLOAD)
def get_checkpoint(
    job_id: str,
    request: Request,
    db: DatabaseDep,
    store: StoreDep,
    redirect: Redirect = False,
    sparsity: Annotated[float | None, Query(description="which of several targets, as the spec names it")] = None,
) -> Response:
    """Without `sparsity` that of the highest target that meets the accuracy target, else of the lowest.

    Takes Range, If-Range and If-None-Match.
    """
    with db.read() as session:
        job = jobs.get(session, job_id)
        if job.result is None:
            raise Problem(404, "no_checkpoint", f"the job is {job.state}: a checkpoint is there once it has succeeded")
        name = _checkpoint_name(job.result, sparsity)
    return get_artifact(job_id, name, request, db, store, redirect)


def _checkpoint_name(result: dict[str, Any], sparsity: float | None) -> str:
    """Of a result of another version as much is used as can be read."""
    if sparsity is None:
        return _name_in(result)
    stored = result.get("points")
    points = [one for one in stored if is_point(one) and is_of_sparsity(one)] if isinstance(stored, list) else []
    for point in points:
        if point["target"] == sparsity:
            return _name_in(point)
    targets = ", ".join(f"{point['target']!r}" for point in points)
    remedy = f"ask for one of {targets}" if targets else "ask without `sparsity` for its only checkpoint"
    raise Problem(404, "no_checkpoint", f"the job has no such target sparsity: {remedy}")


def _name_in(stored: dict[str, Any]) -> str:
    checkpoint = stored.get("checkpoint")
    return str(checkpoint.get("name", CHECKPOINT)) if isinstance(checkpoint, dict) else CHECKPOINT
