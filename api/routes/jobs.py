"""Jobs as their owner sees them."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import Header, Query, Request, Response
from pydantic import AwareDatetime, StringConstraints
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import docs
from api.body import read_json
from api.deps import DatabaseDep, Parts, PartsDep
from api.dry_run import dry_run
from api.errors import Problem, blame_parameter
from api.ranges import matches
from api.represent import job_path, job_view, new_job_view, page_of
from api.router import Router
from api.schemas import CheckView, JobView, Page
from purlkit.spec import JobSpec
from services import artifacts, jobs, listing
from services.database import Database
from services.disk import check_room
from services.errors import StoreUnavailable
from services.jobs import Submitted
from services.listing import Filter
from services.quotas import Quotas
from services.states import JobState
from services.tables import Job

log = logging.getLogger(__name__)

router = Router(prefix="/jobs", tags=["jobs"])

Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=100, description="items per page")]
Key = Annotated[
    str | None,
    Header(
        pattern=r"^[\x20-\x7e]{1,255}$",
        description="Yours to choose, at most 255 printable characters. The same key and body again give the job that "
        "the first request made.",
        examples=["prune-resnet-2026-11-21"],
    ),
]
Label = Annotated[
    list[Annotated[str, StringConstraints(max_length=63 + 1 + 255, pattern=r"^[^:]{0,63}:")]],
    Query(max_length=8, description="key:value, a label that the job has; repeat it for several"),
]
Moment = Annotated[AwareDatetime | None, Query(description="a time with its zone, as in created_at")]


@router.post(
    "",
    status_code=202,
    summary="Submit a job, or ask what it would be",
    response_model=JobView,
    openapi_extra=docs.json_request(JobSpec),
    responses={
        200: {"model": CheckView, "description": "with dry_run: what the job would be, and whether it can run"},
        **docs.problems(
            p400="the body is not JSON",
            p413="the body is too large",
            p409="a request with this Idempotency-Key is being answered: idempotency_in_flight",
            p415="the body is not declared as JSON",
            p422="a field is to blame: `errors` names each, and the remedy",
            p429="the queue or the store is full, or too many dry runs are going on",
            p500="the dry run's process died",
            p504="the dry run took too long",
            p507="there is no room left on the disk",
        ),
    },
)
async def submit_job(
    request: Request,
    parts: PartsDep,
    idempotency_key: Key = None,
    dry_run_: Annotated[bool, Query(alias="dry_run", description="make no job; say what it would be")] = False,
) -> Response:
    """The least body is {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}.

    A 202 is durable: the job is on disk before it is answered.
    """
    with sole_use(request, parts, idempotency_key):
        spec = await read_json(request, JobSpec, parts.settings.max_body_bytes)
        if dry_run_:
            return Response((await dry_run(parts, spec)).model_dump_json(), media_type="application/json")
        return await run_in_threadpool(_submit, parts, idempotency_key, partial(jobs.submit, spec=spec))


@router.post(
    "/{job_id}/retry",
    status_code=202,
    summary="Submit an ended job once more",
    response_model=JobView,
    responses=docs.problems(
        p404=docs.NO_JOB,
        p409="the job has not ended, or a request with this key is being answered",
        p422="the spec no longer holds here, or the key came with something else",
        p429="the queue or the store is full",
        p507="there is no room left on the disk",
    ),
)
async def retry_job(job_id: str, request: Request, parts: PartsDep, idempotency_key: Key = None) -> Response:
    """A new job of the same spec, from the beginning. It names the ended one as its `parent`."""
    with sole_use(request, parts, idempotency_key):
        return await run_in_threadpool(_submit, parts, idempotency_key, partial(jobs.retry, job_id=job_id))


@contextmanager
def sole_use(request: Request, parts: Parts, key: str | None) -> Iterator[None]:
    """One request at a time for each key: the first one's answer is the answer to all."""
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise blame_parameter("invalid_parameter", "idempotency-key", "is given twice: give one key")
    if key is None:
        yield
        return
    mine = (parts.caller.tenant, key)
    if mine in parts.keys_in_flight:
        raise Problem(
            409,
            "idempotency_in_flight",
            "a request with this Idempotency-Key is being answered: ask again in a moment",
            headers={"Retry-After": "1"},
        )
    parts.keys_in_flight.add(mine)
    try:
        yield
    finally:
        parts.keys_in_flight.discard(mine)


def _submit(parts: Parts, key: str | None, make: Callable[..., Submitted]) -> Response:
    settings = parts.settings
    check_room(settings)
    with parts.db.write() as session:
        submitted = make(session, key=key, keep_hours=settings.idempotency_hours, limits=Quotas.of(settings))
        view = (job_view if submitted.replayed else new_job_view)(session, submitted.job)
    headers = {"Location": job_path(submitted.job)}
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(view, 202, headers, media_type="application/json")


@router.get(
    "",
    summary="All jobs, newest first",
    response_model=Page[JobView],
    responses=docs.problems(p422="a parameter is to blame"),
)
def list_jobs(
    parts: PartsDep,
    state: JobState | None = None,
    model: Annotated[str | None, Query(max_length=100, description="a name from GET /models")] = None,
    sweep: Annotated[str | None, Query(max_length=40, description="id of a sweep")] = None,
    label: Label = [],  # noqa: B006, FastAPI copies it
    created_after: Moment = None,
    created_before: Moment = None,
    limit: Limit = 20,
    after: Cursor = None,
) -> Response:
    """All filters hold together. `created_after` includes its own moment, `created_before` does not."""
    chosen = Filter(
        state=state,
        model=model,
        sweep=sweep,
        labels=_labels(label),
        created_after=_ms(created_after),
        created_before=_ms(created_before),
    )

    def read() -> bytes:
        with parts.db.read() as session:
            page = listing.page(session, chosen, limit=limit, after=after)
            return page_of(parts.jobs_json.of(session, page.items), has_more=page.has_more, next=page.next)

    return Response(parts.recalled((chosen, limit, after), read), media_type="application/json")


def _labels(said: list[str]) -> tuple[tuple[str, str], ...]:
    """Splits at the first colon, so a value may have more of them."""
    labels = tuple((key, value) for key, _, value in (text.partition(":") for text in said))
    if len(dict(labels)) < len(labels):
        raise blame_parameter("invalid_parameter", "label", "a job has one value for each key: name each key once")
    return labels


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else math.ceil(moment.timestamp() * 1000)


@router.get(
    "/{job_id}",
    summary="One job",
    response_model=JobView,
    responses={304: {"description": "nothing has changed since that ETag"}, **docs.problems(p404=docs.NO_JOB)},
)
def get_job(
    job_id: str,
    parts: PartsDep,
    if_none_match: Annotated[str, Header(description="the ETag of an earlier answer")] = "",
) -> Response:
    """The ETag is of the whole answer, since a job's place in the queue moves without the job's own row."""

    def read() -> bytes:
        with parts.db.read() as session:
            return parts.jobs_json.one(session, job_id)

    body = parts.recalled(job_id, read)
    etag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


_MOVES = docs.problems(p404=docs.NO_JOB, p409="the job's state does not allow it: illegal_move")


@router.post(
    "/{job_id}/cancel", status_code=202, summary="Stop a job for good", response_model=JobView, responses=_MOVES
)
def cancel_job(job_id: str, db: DatabaseDep) -> Response:
    """A running job is cancelled once its attempt has acknowledged, or its lease has run out. Repeating is fine."""
    return _moved(db, job_id, jobs.request_cancel)


@router.post("/{job_id}/pause", status_code=202, summary="Stop a job for now", response_model=JobView, responses=_MOVES)
def pause_job(job_id: str, db: DatabaseDep) -> Response:
    """A running job saves its work and is paused once its attempt has acknowledged."""
    return _moved(db, job_id, jobs.request_pause)


@router.post(
    "/{job_id}/resume", status_code=202, summary="Let a paused job go on", response_model=JobView, responses=_MOVES
)
def resume_job(job_id: str, db: DatabaseDep) -> Response:
    """Back into the queue; the next attempt goes on from the saved work."""
    return _moved(db, job_id, jobs.resume)


def _moved(db: Database, job_id: str, move: Callable[[Session, str], Job]) -> Response:
    with db.write() as session:
        view = job_view(session, move(session, job_id))
    return Response(view, 202, media_type="application/json")


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Forget an ended job",
    responses=docs.problems(p404=docs.NO_JOB, p409="the job has not ended: illegal_move"),
)
def delete_job(job_id: str, parts: PartsDep) -> None:
    """Its rows and its files go; bytes that another job names as well stay for that one."""
    with parts.db.write() as session:
        named = jobs.delete(session, job_id)
    parts.jobs_json.drop(job_id)
    try:
        artifacts.remove_unnamed(parts.db, parts.store, named)
    except StoreUnavailable:
        log.warning("the store fails: the cleaner will remove the bytes of %s", job_id)
