"""Live streams of events: one look at the database at a time for all watchers of this process, however many.

A job that is watched has a feed: the last events that were seen of it, ready to be sent. A watcher that has fallen
behind what the feed holds reads its own pages until it has caught up, so nobody needs a buffer of its own, and the
numbers of the events alone decide what comes next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi.sse import EventSourceResponse, format_sse_event
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive, Scope, Send

from api.represent import event_view
from services import events, jobs
from services.database import Database
from services.tables import Event, Job

log = logging.getLogger(__name__)

# Proxies close what is silent for a minute, some for half of that.
HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": still here\n\n"

# How soon a stream notices that its key has ended.
OVER_SECONDS = 1.5

# What one look at the database brings, and what a feed keeps.
EVENTS_PER_LOOK = 100
EVENTS_KEPT = 300
JOBS_PER_QUERY = 500

# A reader that takes nothing for so long is cut off. It may come back with the id of the last event that it got.
STALLED_SECONDS = 60.0

Piece = tuple[int, bytes]  # an event's seq, and the event as it is sent


@dataclass
class Feed:
    """What is known of one watched job."""

    pieces: deque[Piece] = field(default_factory=partial(deque, maxlen=EVENTS_KEPT))
    seen: int | None = None  # the last seq that is known; none before the first watcher has caught up
    ended: bool = False  # and nothing will follow `seen`
    news: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: int = 0

    def behind(self, after: int) -> list[Piece] | None:
        """What follows `after`, if all of that is here."""
        if self.seen is None or after < (self.pieces[0][0] if self.pieces else self.seen + 1) - 1:
            return None
        return [piece for piece in self.pieces if piece[0] > after]

    def tell(self) -> None:
        """Wakes everyone who waits now; who looks later waits for the next time."""
        self.news.set()
        self.news = asyncio.Event()


class Hub:
    def __init__(self, db: Database, poll_seconds: float, stopping: asyncio.Event) -> None:
        self._db = db
        self._poll_seconds = poll_seconds
        self.stopping = stopping
        self._feeds: dict[str, Feed] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> int:
        return sum(feed.watchers for feed in self._feeds.values())

    async def follow(
        self,
        job_id: str,
        after: int,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        over: asyncio.Event | None = None,
    ) -> AsyncIterator[bytes]:
        """Every event behind `after` as it comes, until the job has ended, the server wants to stop, or it's `over`."""
        with self._watch(job_id) as feed:
            spoke_at = time.monotonic()
            while not self.stopping.is_set() and (over is None or not over.is_set()):
                news = feed.news  # before the look, or what comes between the two would be missed
                here = feed.behind(after)
                if here is not None:
                    pieces = here
                else:
                    pieces, latest = await run_in_threadpool(self._page, job_id, after)
                    if len(pieces) < EVENTS_PER_LOOK and feed.seen is None:
                        feed.seen = latest
                for seq, piece in pieces:
                    yield piece
                    after, spoke_at = seq, time.monotonic()
                if pieces or feed.seen is None:
                    continue
                if feed.ended and after >= feed.seen:
                    return
                silence = spoke_at + heartbeat_seconds - time.monotonic()
                # A word in between is no news: it only looks whether the stream is over.
                if await _happens(news, silence if over is None else min(silence, OVER_SECONDS)):
                    continue
                if time.monotonic() - spoke_at >= heartbeat_seconds:
                    yield HEARTBEAT
                    spoke_at = time.monotonic()

    @contextmanager
    def _watch(self, job_id: str) -> Iterator[Feed]:
        feed = self._feeds.setdefault(job_id, Feed())
        feed.watchers += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_again_and_again(), name="events")
        try:
            yield feed
        finally:
            feed.watchers -= 1
            if not feed.watchers:
                self._feeds.pop(job_id, None)

    async def _look_again_and_again(self) -> None:
        while self._feeds and not self.stopping.is_set():
            known = {job_id: feed.seen for job_id, feed in self._feeds.items() if feed.seen is not None}
            try:
                looks = await run_in_threadpool(self._look, known)
            except (DBAPIError, PoolTimeout) as error:
                log.warning("the database does not answer, watchers wait: %s", getattr(error, "orig", error))
                looks = {}
            for job_id, (pieces, ended) in looks.items():
                feed = self._feeds.get(job_id)
                if feed is None or feed.seen != known[job_id]:
                    continue  # everyone left, and others came, while we looked
                feed.pieces.extend(pieces)
                feed.seen = pieces[-1][0] if pieces else feed.seen
                feed.ended = ended
                if pieces or ended:
                    feed.tell()
            await _happens(self.stopping, self._poll_seconds)
        for feed in self._feeds.values():
            feed.tell()

    def _look(self, known: dict[str, int]) -> dict[str, tuple[list[Piece], bool]]:
        """What is new of each job, and whether nothing will ever follow. A job that is gone has ended."""
        found: dict[str, tuple[list[Piece], bool]] = dict.fromkeys(known, ([], True))
        with self._db.read() as session:
            ids = list(known)
            latest = func.coalesce(select(func.max(Event.seq)).where(Event.job_id == Job.id).scalar_subquery(), 0)
            for start in range(0, len(ids), JOBS_PER_QUERY):
                some = select(Job.id, Job.state, latest).where(Job.id.in_(ids[start : start + JOBS_PER_QUERY]))
                for job_id, state, last in session.execute(some).all():
                    pieces: list[Piece] = []
                    if last > known[job_id]:
                        pieces = _pieces(events.page(session, job_id, known[job_id], EVENTS_PER_LOOK).items)
                    told = pieces[-1][0] if pieces else known[job_id]
                    found[job_id] = pieces, state.is_terminal and told >= last
        return found

    def _page(self, job_id: str, after: int) -> tuple[list[Piece], int]:
        """A page of the history, and how far the history goes."""
        with self._db.read() as session:
            jobs.get(session, job_id)
            last = session.scalar(select(func.max(Event.seq)).where(Event.job_id == job_id)) or 0
            return _pieces(events.page(session, job_id, after, EVENTS_PER_LOOK).items), last


class LiveResponse(EventSourceResponse):
    """Cuts off a reader that has stopped to take what it asked for: the kernel would keep it for ever."""

    def __init__(self, pieces: AsyncIterator[bytes], *, headers: dict[str, str], at_end: Callable[[], object]) -> None:
        super().__init__(pieces, headers=headers)
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        cut_off: Any = scope.get("purl.cut_off", lambda: None)

        async def impatient(message: Message) -> None:
            timer = loop.call_later(STALLED_SECONDS, cut_off)
            try:
                await send(message)
            finally:
                timer.cancel()

        try:
            await super().__call__(scope, receive, impatient)
        finally:
            self._at_end()


def _pieces(found: Sequence[Event]) -> list[Piece]:
    views = [event_view(event) for event in found]
    return [
        (view.seq, format_sse_event(event=view.type, id=str(view.seq), data_str=view.model_dump_json()))
        for view in views
    ]


async def _happens(what: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(what.wait(), max(0.0, seconds))
    except TimeoutError:
        return False
    return True
