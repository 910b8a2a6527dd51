"""What happened to a job: a page of it, or a live stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.concurrency import run_in_threadpool

from api import docs
from api.deps import Parts, PartsDep
from api.represent import event_view
from api.schemas import EventView, Page
from services import events, jobs
from services.database import Database

router = APIRouter(prefix="/jobs", tags=["results"])

# Proxies close what is silent for a minute, some for half of that.
HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": still here\n\n"

# What one look at the database brings for a stream.
EVENTS_PER_LOOK = 100

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
        **docs.problems(p404=docs.NO_JOB, p422="a parameter is to blame"),
    },
)
async def list_events(
    job_id: str,
    parts: PartsDep,
    after: Seq = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="events per page")] = 100,
    accept: Annotated[str, Header(description="text/event-stream for the stream")] = "",
    last_event_id: LastEventId = None,
) -> Response:
    """A page ends at `next`, which is `after` for the following one, even where there is nothing more yet.

    The stream sends each event under its seq as id, so a client that reconnects misses none and sees none twice. It
    ends with the last event of a job that has ended.
    """
    if "text/event-stream" not in accept.lower():
        page = await run_in_threadpool(_page, parts.db, job_id, after, limit)
        return Response(page.model_dump_json(), media_type="application/json")
    after = after if last_event_id is None else last_event_id
    first, over = await run_in_threadpool(_look, parts.db, job_id, after)
    if over and not first:
        return Response(status_code=204)
    return StreamingResponse(
        follow(parts, job_id, after),
        media_type="text/event-stream",
        # The second is for nginx, which would hold events back to fill its buffer.
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def follow(
    parts: Parts, job_id: str, after: int, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> AsyncIterator[bytes]:
    """Every event behind `after` as it comes, until the job has ended or the server wants to stop."""
    spoke_at = time.monotonic()
    while not parts.stopping.is_set():
        seen, over = await run_in_threadpool(_look, parts.db, job_id, after)
        for event in seen:
            yield format_sse_event(event=event.type, id=str(event.seq), data_str=event.model_dump_json())
            after, spoke_at = event.seq, time.monotonic()
        if over:
            return
        if time.monotonic() - spoke_at >= heartbeat_seconds:
            yield HEARTBEAT
            spoke_at = time.monotonic()
        if len(seen) < EVENTS_PER_LOOK:
            await _pause(parts)


async def _pause(parts: Parts) -> None:
    try:
        await asyncio.wait_for(parts.stopping.wait(), parts.settings.poll_seconds)
    except TimeoutError:
        return


def _page(db: Database, job_id: str, after: int, limit: int) -> Page[EventView]:
    with db.read() as session:
        jobs.get(session, job_id)
        page = events.page(session, job_id, after, limit)
        return Page(data=[event_view(event) for event in page.items], has_more=page.has_more, next=page.next)


def _look(db: Database, job_id: str, after: int) -> tuple[list[EventView], bool]:
    """What is new, and whether nothing will ever follow it. The state is read first: its event can't come later."""
    with db.read() as session:
        ended = jobs.get(session, job_id).state.is_terminal
        page = events.page(session, job_id, after, EVENTS_PER_LOOK)
        return [event_view(event) for event in page.items], ended and not page.has_more
