"""What an attempt says, while it says it."""

from __future__ import annotations

import re

from fastapi import Request, Response

from api import docs
from api.deps import DatabaseDep, StoreDep
from api.downloads import asked_span, send
from api.ranges import Span
from api.router import Router
from services import attempts, jobs
from services.errors import NotFound

router = Router(prefix="/jobs", tags=["results"])

_NUMBER = re.compile("[0-9]{1,9}")


@router.get(
    "/{job_id}/attempts/{number}/log",
    summary="What an attempt has said so far",
    response_class=Response,
    responses={
        200: {"description": "the log", "content": docs.TEXT},
        206: {"description": "the part that Range asked for", "content": docs.TEXT},
        304: {"description": "the attempt has ended, and its log is the one of If-None-Match"},
        **docs.problems(p404="there is no such job or attempt", p416="there is nothing new yet"),
    },
)
def get_attempt_log(job_id: str, number: str, request: Request, db: DatabaseDep, store: StoreDep) -> Response:
    """It grows while the attempt runs: ask for `Range: bytes=N-`, where N is how much you have. A 416 says that there
    is nothing new yet. Where an answer has an ETag, 416 too, the log is whole and nothing will follow. Of a log of more
    than 8 MiB the end is kept once the attempt has ended."""
    with db.read() as session:
        jobs.get(session, job_id)
        if _NUMBER.fullmatch(number) is None:
            raise NotFound("attempt")
        log = attempts.find_log(session, job_id, int(number))
        if log.whole is not None:
            whole = log.whole
            return send(request, store, sha256=whole.sha256, size=whole.bytes, media_type=whole.media_type)
        span = asked_span(request, "", log.size)
        wanted = span or Span(0, log.size - 1)
        said = attempts.read_log(session, log.attempt_id, wanted.first, wanted.last)
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if span is not None:
        headers["Content-Range"] = f"bytes {span.first}-{span.last}/{log.size}"
    return Response(said, 200 if span is None else 206, headers, media_type="text/plain; charset=utf-8")
