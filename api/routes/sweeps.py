"""Sweeps: many jobs as one request. The dispatcher knows nothing of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import docs, sweeping
from api.body import parse, read_json, sentence
from api.deps import Parts, PartsDep
from api.errors import FieldError, Problem
from api.router import Router
from api.routes.jobs import Cursor, Key, Limit, sole_use
from api.schemas import Page, SweepSummary, SweepView
from purlkit.spec import JobSpec, SweepPoint, SweepSpec
from services import sweeps
from services.disk import check_room
from services.quotas import Quotas
from services.tables import Sweep

router = Router(prefix="/sweeps", tags=["sweeps"])


@router.post(
    "",
    status_code=202,
    summary="Submit many jobs that differ in a few fields",
    response_model=SweepView,
    openapi_extra=docs.json_request(SweepSpec),
    responses=docs.problems(
        p400="the body is not JSON",
        p413="the body is too large",
        p409="a request with this Idempotency-Key is being answered: idempotency_in_flight",
        p415="the body is not declared as JSON",
        p422="a field is to blame, in `base` or in `grid`: `errors` names each",
        p429="the queue or the store has no room for all of them",
        p507="there is no room left on the disk",
    ),
)
async def submit_sweep(request: Request, parts: PartsDep, idempotency_key: Key = None) -> Response:
    """All combinations of the grid's values become jobs, or none does if one of them is refused."""
    with sole_use(request, parts, idempotency_key):
        sweep = await read_json(request, SweepSpec, parts.settings.max_body_bytes)
        return await run_in_threadpool(_submit, parts, idempotency_key, sweep)


def _submit(parts: Parts, key: str | None, spec: SweepSpec) -> Response:
    settings = parts.settings
    points = [(point, _job_of(point)) for point in spec.points()]
    check_room(settings)
    with parts.db.write() as session:
        submitted = sweeps.submit(
            session,
            spec,
            points,
            key=key,
            keep_hours=settings.idempotency_hours,
            limits=Quotas.of(settings),
        )
        view = to_json(sweeping.view(session, parts.sweep_tables, submitted.sweep))
    headers = {"Location": sweeping.sweep_path(submitted.sweep)}
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(view, 202, headers, media_type="application/json")


def _job_of(point: SweepPoint) -> JobSpec:
    """The job as POST /jobs would take it; what is wrong with it is said of its place in the sweep."""
    try:
        with point.blamed():
            return parse(JobSpec, to_json(point.body)).resolve()
    except Problem as problem:
        errors = [
            FieldError(pointer=point.place(error.pointer or ""), message=error.message) for error in problem.errors
        ]
        raise Problem(problem.status, problem.code, sentence(errors), errors=errors) from None


@router.get(
    "",
    summary="All sweeps, newest first",
    response_model=Page[SweepSummary],
    responses=docs.problems(p422="a parameter is to blame"),
)
def list_sweeps(parts: PartsDep, limit: Limit = 20, after: Cursor = None) -> Response:
    with parts.db.read() as session:
        page = sweeps.page(session, limit=limit, after=after)
        found = {"data": sweeping.summaries(session, page.items), "has_more": page.has_more, "next": page.next}
    return _json(found)


@router.get(
    "/{sweep_id}",
    summary="One sweep, with the table of its jobs",
    response_model=SweepView,
    responses=docs.problems(p404=docs.NO_SWEEP),
)
def get_sweep(sweep_id: str, parts: PartsDep) -> Response:
    """The table fills as jobs end; `ended` says when it is full."""
    with parts.db.read() as session:
        return _json(sweeping.view(session, parts.sweep_tables, sweeps.get(session, sweep_id)))


_MOVES = docs.problems(p404=docs.NO_SWEEP, p409="all of its jobs have ended: illegal_move")


@router.post(
    "/{sweep_id}/cancel", status_code=202, summary="Stop all of it for good", response_model=SweepView, responses=_MOVES
)
def cancel_sweep(sweep_id: str, parts: PartsDep) -> Response:
    """Every job that has not ended is cancelled. Repeating is fine."""
    return _moved(parts, sweep_id, sweeps.cancel)


@router.post(
    "/{sweep_id}/pause", status_code=202, summary="Stop all of it for now", response_model=SweepView, responses=_MOVES
)
def pause_sweep(sweep_id: str, parts: PartsDep) -> Response:
    """Every job that has not ended is paused, the running ones once their attempts have acknowledged."""
    return _moved(parts, sweep_id, sweeps.pause)


@router.post(
    "/{sweep_id}/resume", status_code=202, summary="Let all of it go on", response_model=SweepView, responses=_MOVES
)
def resume_sweep(sweep_id: str, parts: PartsDep) -> Response:
    """Every paused job goes back into the queue; the others stay where they are."""
    return _moved(parts, sweep_id, sweeps.resume)


def _moved(parts: Parts, sweep_id: str, move: Callable[[Session, str], Sweep]) -> Response:
    with parts.db.write() as session:
        found = sweeping.view(session, parts.sweep_tables, move(session, sweep_id))
    return _json(found, 202)


def _json(told: dict[str, Any], status: int = 200) -> Response:
    return Response(to_json(told), status, media_type="application/json")
