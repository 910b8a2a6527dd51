"""The addresses of the dashboard. / is the list of jobs; all else is below /ui, out of the way of the API's own."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query, Request, Response

from api.dashboard import cluster, compare, form, job_page, rendering, weights
from api.dashboard.rows import rows
from api.deps import PartsDep
from api.errors import blame_parameter
from api.router import Router
from purlkit.zoo import catalog
from services import listing, overview
from services.errors import NotFound
from services.listing import Filter
from services.states import JobState

router = Router(include_in_schema=False)

JOBS_ON_A_PAGE = 25

# A form sends the fields that were left empty too.
# PostgreSQL refuses a NUL even in a question.
Words = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]


@router.get("/")
def jobs_page(
    request: Request,
    parts: PartsDep,
    state: JobState | Literal[""] = "",
    model: Words = "",
    label: Words = "",
    search: Words = "",
    after: Words = "",
) -> Response:
    key, colon, value = (part.strip() for part in label.partition(":"))
    if label and not colon:
        raise blame_parameter("invalid_parameter", "label", "is key:value")
    chosen = Filter(
        state=state or None,
        model=model.strip() or None,
        labels=((key, value),) if label else (),
        search=search.strip() or None,
    )
    with parts.db.read() as session:
        page = listing.page(session, chosen, limit=JOBS_ON_A_PAGE, after=after or None)
        found = rows(parts.jobs_json.of(session, page.items))
        counts = overview.counts(session)
    asked = {"state": state, "model": model, "label": label, "search": search}
    return rendering.page(
        request, "jobs.html", rows=found, counts=counts, next=page.next, asked=asked, after=after, most=compare.MOST
    )


@router.get("/ui/new")
def new_page(request: Request) -> Response:
    models, datasets = catalog.all_models(), catalog.all_datasets()
    return rendering.page(request, "new.html", groups=form.groups(), models=models.values(), datasets=datasets.values())


@router.get("/ui/jobs/{job_id}")
def one_job_page(job_id: str, request: Request, parts: PartsDep) -> Response:
    try:
        return rendering.page(request, "job.html", **job_page.of(parts, job_id))
    except NotFound:
        return _missing(request, "There is no such job.", "It was deleted, or the address is not whole.")


@router.get("/ui/jobs/{job_id}/weights")
def weights_page(
    job_id: str, request: Request, parts: PartsDep, target: float | None = None, first: Annotated[int, Query(ge=0)] = 0
) -> Response:
    try:
        return rendering.page(request, "weights.html", **weights.of(parts, job_id, target, first))
    except NotFound:
        return _missing(request, "There are no weights to look at.", "They are there once the job has succeeded.")


@router.get("/ui/compare")
def compare_page(request: Request, parts: PartsDep, job: Annotated[list[Words], Query()] = []) -> Response:  # noqa: B006, FastAPI copies it
    ids = list(dict.fromkeys(job))
    if not compare.FEWEST <= len(ids) <= compare.MOST:
        said = f"Tick {compare.FEWEST} to {compare.MOST} jobs in the list; {len(ids)} came along."
        return _missing(request, "Which jobs?", said)
    try:
        return rendering.page(request, "compare.html", ids=ids, **compare.of(parts, ids))
    except NotFound:
        return _missing(request, "One of these jobs is gone.", "Tick those that you want again.")


@router.get("/ui/cluster")
def cluster_page(request: Request, parts: PartsDep) -> Response:
    return rendering.page(request, "cluster.html", **cluster.of(parts))


def _missing(request: Request, title: str, says: str) -> Response:
    return rendering.page(request, "missing.html", 404, title=title, says=says)
