"""What happened to a job: a page of it, or a live stream."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api import docs
from api.deps import PartsDep
from api.represent import event_view
from api.router import Router
from api.schemas import EventView, Page
from api.watching import LiveResponse
from services import events, jobs
from services.database import Database

router = Router(prefix="/jobs", tags=["results"])

LARGEST_SEQ = 2**63 - 1
Seq = Annotated[int, Query(ge=0, le=LARGEST_SEQ, description="only events behind this seq")]
LastEventId = Annotated[
    int | None, Header(ge=0, le=LARGEST_SEQ, description="sent by a stream that reconnects; wins over `after`")
]


@router.get(
    "/{job_id}/events",
    summary="What happened, as a page or as a stream",
    response_model=Page[EventView],
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "a stream of an ended job that has nothing more to say: don't reconnect"},
        **docs.problems(
            p404=docs.NO_JOB,
            p422="a parameter is to blame",
            p429="as many streams are open as may be: too_many_streams",
        ),
    },
)
async def list_events(
    job_id: str,
    request: Request,
    parts: PartsDep,
    after: Seq = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="events per page")] = 100,
    last_event_id: LastEventId = None,
) -> Response:
    """The stream is for those who send `Accept: text/event-stream`, the page for all others.

    A page ends at `next`, which is `after` for the following one, even where there is nothing more yet.

    The stream sends each event under its seq as id, so a client that reconnects misses none and sees none twice. It
    ends with the last event of a job that has ended.
    """
    if "text/event-stream" not in request.headers.get("accept", "").lower():
        page = await run_in_threadpool(_page, parts.db, job_id, after, limit)
        return Response(page.model_dump_json(), media_type="application/json")
    after = after if last_event_id is None else last_event_id
    if await run_in_threadpool(_is_over, parts.db, job_id, after):
        return Response(status_code=204)
    # The second is for nginx, which would hold events back to fill its buffer.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="text/event-stream")
    over = parts.streams.begin(parts.caller)
    return LiveResponse(
        parts.hub.follow(job_id, after, over=over), headers=headers, at_end=partial(parts.streams.end, over)
    )


def _page(db: Database, job_id: str, after: int, limit: int) -> Page[EventView]:
    with db.read() as session:
        jobs.get(session, job_id)
        page = events.page(session, job_id, after, limit)
        return Page(data=[event_view(event) for event in page.items], has_more=page.has_more, next=page.next)


def _is_over(db: Database, job_id: str, after: int) -> bool:
    """Whether nothing will ever follow. The state is read first: its event can't come later."""
    with db.read() as session:
        ended = jobs.get(session, job_id).state.is_terminal
        return ended and not events.page(session, job_id, after, 1).items
