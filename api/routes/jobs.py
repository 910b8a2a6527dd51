"""Jobs as their owner sees them."""

from __future__ import annotations

import hashlib
import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from starlette.concurrency import run_in_threadpool

from api import docs
from api.body import json_body
from api.deps import DatabaseDep, Parts, PartsDep
from api.dry_run import dry_run
from api.ranges import matches
from api.represent import job_view, job_views
from api.schemas import CheckView, JobView, Page
from purlkit.spec import JobSpec
from services import artifacts, jobs
from services.disk import check_room
from services.errors import StoreUnavailable
from services.states import JobState

log = logging.getLogger(__name__)

router = APIRouter(prefix="/jobs", tags=["jobs"])

Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=100, description="items per page")]
Key = Annotated[
    str | None,
    Header(
        pattern=r"^[\x20-\x7e]{1,255}$",
        description="Yours to choose, at most 255 printable characters. The same key and body again give the job that "
        "the first request made.",
    ),
]


@router.post(
    "",
    status_code=202,
    summary="Submit a job, or ask what it would be",
    response_model=JobView,
    openapi_extra=docs.json_request(JobSpec, docs.LEAST_BODY),
    responses={
        200: {"model": CheckView, "description": "with dry_run: what the job would be, and whether it can run"},
        **docs.problems(
            p400="the body is not JSON",
            p413="the body is too large",
            p415="the body is not declared as JSON",
            p422="a field is to blame: `errors` names each, and the remedy",
            p429="too many dry runs at once",
            p500="the dry run's process died",
            p504="the dry run took too long",
            p507="there is no room left on the disk",
        ),
    },
)
async def submit(
    spec: Annotated[JobSpec, Depends(json_body(JobSpec))],
    parts: PartsDep,
    idempotency_key: Key = None,
    dry_run_: Annotated[bool, Query(alias="dry_run", description="make no job; say what it would be")] = False,
) -> Response:
    """The least body is {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}.

    A 202 is durable: the job is on disk before it is answered.
    """
    if dry_run_:
        return _json(await dry_run(parts, spec))
    return await run_in_threadpool(_submit, parts, spec, idempotency_key)


def _submit(parts: Parts, spec: JobSpec, key: str | None) -> Response:
    check_room(parts.settings)
    with parts.db.write() as session:
        submitted = jobs.submit(session, spec, key=key, keep_hours=parts.settings.idempotency_hours)
        view = job_view(session, submitted.job)
    headers = {"Location": view.links.self}
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return _json(view, status=202, headers=headers)


@router.get("", summary="All jobs, newest first", responses=docs.problems(p422="a parameter is to blame"))
def list_jobs(db: DatabaseDep, state: JobState | None = None, limit: Limit = 20, after: Cursor = None) -> Page[JobView]:
    with db.read() as session:
        page = jobs.page(session, state=state, limit=limit, after=after)
        return Page(data=job_views(session, page.items), has_more=page.has_more, next=page.next)


@router.get(
    "/{job_id}",
    summary="One job",
    response_model=JobView,
    responses={304: {"description": "nothing has changed since that ETag"}, **docs.problems(p404=docs.NO_JOB)},
)
def get_job(
    job_id: str,
    db: DatabaseDep,
    if_none_match: Annotated[str, Header(description="the ETag of an earlier answer")] = "",
) -> Response:
    """The ETag is of the whole answer, since a job's place in the queue moves without the job's own row."""
    with db.read() as session:
        body = job_view(session, jobs.get(session, job_id)).model_dump_json().encode()
    etag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


_MOVES = docs.problems(p404=docs.NO_JOB, p409="the job's state does not allow it: illegal_move")


@router.post("/{job_id}/cancel", status_code=202, summary="Stop a job for good", responses=_MOVES)
def cancel(job_id: str, db: DatabaseDep) -> JobView:
    """A running job is cancelled once its attempt has acknowledged, or its lease has run out. Repeating is fine."""
    with db.write() as session:
        return job_view(session, jobs.request_cancel(session, job_id))


@router.post("/{job_id}/pause", status_code=202, summary="Stop a job for now", responses=_MOVES)
def pause(job_id: str, db: DatabaseDep) -> JobView:
    """A running job saves its work and is paused once its attempt has acknowledged."""
    with db.write() as session:
        return job_view(session, jobs.request_pause(session, job_id))


@router.post("/{job_id}/resume", status_code=202, summary="Let a paused job go on", responses=_MOVES)
def resume(job_id: str, db: DatabaseDep) -> JobView:
    """Back into the queue; the next attempt goes on from the saved work."""
    with db.write() as session:
        return job_view(session, jobs.resume(session, job_id))


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Forget an ended job",
    responses=docs.problems(p404=docs.NO_JOB, p409="the job has not ended: illegal_move"),
)
def delete(job_id: str, parts: PartsDep) -> None:
    """Its rows and its files go; bytes that another job names as well stay for that one."""
    with parts.db.write() as session:
        named = jobs.delete(session, job_id)
    try:
        artifacts.remove_unnamed(parts.db, parts.store, named)
    except StoreUnavailable:
        log.warning("the store fails: the sweeper will remove the bytes of %s", job_id)


def _json(view: JobView | CheckView, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(view.model_dump_json(), status, headers, media_type="application/json")
