"""What the short-lived worker of a dry run asks and says, under the token of its one check."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response

from api import docs
from api.body import json_body
from api.deps import StoreDep, TokenDep, WholeDatabaseDep
from api.downloads import send
from api.router import Router
from purlkit.results import CheckAnswer, CheckBrief
from purlkit.spec import JobSpec, Uploaded
from services import checks, weights
from services.errors import NotFound


def _known(check_id: str, token: TokenDep, db: WholeDatabaseDep) -> None:
    """Nobody else's body is read."""
    with db.read() as session:
        checks.authenticate(session, check_id, token)


router = Router(
    prefix="/checks/{check_id}",
    tags=["worker"],
    responses=docs.problems(p401=docs.NO_TOKEN),
    dependencies=[Depends(_known)],
)


@router.get("", summary="What is to be checked")
def get_check(check_id: str, token: TokenDep, db: WholeDatabaseDep) -> CheckBrief:
    with db.read() as session:
        spec = JobSpec.model_validate(checks.authenticate(session, check_id, token).spec)
        chosen = spec.model.weights
        here = isinstance(chosen, Uploaded) and weights.find(session, chosen.sha256) is not None
    return CheckBrief(spec=spec, weights_href=f"/checks/{check_id}/weights" if here else None)


@router.get("/weights", summary="The uploaded weights that the spec names", response_class=Response)
def get_check_weights(
    check_id: str, token: TokenDep, request: Request, db: WholeDatabaseDep, store: StoreDep
) -> Response:
    with db.read() as session:
        chosen = JobSpec.model_validate(checks.authenticate(session, check_id, token).spec).model.weights
        found = weights.find(session, chosen.sha256) if isinstance(chosen, Uploaded) else None
    if found is None:
        raise NotFound("upload")
    return send(request, store, sha256=found.sha256, size=found.bytes, media_type="application/octet-stream")


@router.post("/report", status_code=204, summary="What the check found", openapi_extra=docs.json_request(CheckAnswer))
def report_check(
    check_id: str, token: TokenDep, found: Annotated[CheckAnswer, Depends(json_body(CheckAnswer))], db: WholeDatabaseDep
) -> None:
    with db.write() as session:
        checks.authenticate(session, check_id, token)
        checks.record(session, check_id, found)
