"""The report of a finished job, as a page."""

from __future__ import annotations

from fastapi import Request, Response

from api import docs
from api.deps import DatabaseDep, StoreDep
from api.downloads import send
from api.errors import Problem
from api.router import Router
from purlkit.results import REPORT
from services import artifacts, jobs
from services.errors import NotFound

router = Router(prefix="/jobs", tags=["results"])

# It is all in one file, and nothing in it runs. `sandbox`: should that ever fail, it is a stranger to this address.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
POLICY += "sandbox"


@router.get(
    "/{job_id}/report",
    summary="The verdict and what it stands on, as a page",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}, "description": "one file, without scripts"},
        304: {"description": "the page is the one of If-None-Match"},
        **docs.problems(p404="there is no such job, or it has no report", p416="the page has no such bytes"),
    },
)
def get_report(job_id: str, request: Request, db: DatabaseDep, store: StoreDep) -> Response:
    """The artifact report.html for a browser: it can be saved and sent on, for it needs no network."""
    with db.read() as session:
        job = jobs.get(session, job_id)
        try:
            found = artifacts.find(session, job_id, REPORT)
        except NotFound:
            told = f"the job is {job.state} and has no report: a job's success brings it, and early versions wrote none"
            raise Problem(404, "no_result", told) from None
    answer = send(request, store, sha256=found.sha256, size=found.bytes, media_type="text/html; charset=utf-8")
    answer.headers["Content-Security-Policy"] = POLICY
    return answer
