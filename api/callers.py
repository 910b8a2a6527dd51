"""Who calls: by key, by the cookie that the dashboard keeps one in, or anybody while the service is open.

A key is looked up again after 2 s at the latest, so one that is revoked opens nothing 5 s later, streams included.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from threading import Lock
from urllib.parse import urlsplit

from fastapi import Request
from sqlalchemy.exc import DBAPIError
from starlette.concurrency import run_in_threadpool

from api.errors import LoginNeeded, Problem
from services import keys
from services.database import Database, clock
from services.errors import Forbidden, Unauthorized
from services.ids import digest
from services.keys import ANYBODY, Caller

log = logging.getLogger(__name__)

KNOWN_SECONDS = 2.0
# Keys in use at once; the one that was asked about longest ago is looked up anew.
MOST_KNOWN = 10_000

COOKIE = "purl_key"

READING = frozenset({"GET", "HEAD"})


class Callers:
    """Of one process. Sees the keys of all tenants."""

    def __init__(self, db: Database, *, may_be_open: bool) -> None:
        self._db = db
        self._may_be_open = may_be_open
        self._open_until = 0.0
        self._known: OrderedDict[str, tuple[Caller, float]] = OrderedDict()  # by the key's digest
        self._lock = Lock()

    async def of(self, request: Request) -> Caller:
        """Raises Unauthorized for a key that opens nothing, also where none is needed."""
        given = bearer_of(request)
        cookie = request.cookies.get(COOKIE) if given is None else None
        if given is None and request.method not in READING:
            refuse_other_sites(request, by_cookie=cookie is not None)
        key = given if given is not None else cookie
        if key is None:
            if await self.is_open():
                return ANYBODY
            raise Unauthorized
        caller = await self.whose(key)
        if caller is None:
            raise Unauthorized
        return caller

    async def whose(self, key: str) -> Caller | None:
        return self._remembered(digest(key)) or await run_in_threadpool(self._look_up, key)

    async def is_open(self) -> bool:
        if not self._may_be_open or time.monotonic() < self._open_until:
            return self._may_be_open
        return await run_in_threadpool(self._look_for_keys)

    def still(self, prefixes: set[str]) -> set[str]:
        """Those whose keys still work; all of them while nobody can tell."""
        try:
            with self._db.read() as session:
                return keys.working(session, prefixes)
        except DBAPIError as error:
            log.warning("the database does not answer: %s", error.orig)
            return prefixes

    def _look_for_keys(self) -> bool:
        with self._db.read() as session:
            made = keys.any_made(session)
        self._open_until = 0.0 if made else time.monotonic() + KNOWN_SECONDS
        return not made

    def _remembered(self, sha256: str) -> Caller | None:
        with self._lock:
            caller, until = self._known.get(sha256, (None, 0.0))
        return caller if time.monotonic() < until else None

    def _look_up(self, key: str) -> Caller | None:
        with self._db.read() as session:
            caller = keys.find(session, key)
            now = clock(session)
        if caller is None or caller.prefix is None:
            return None
        if caller.used_at is None or caller.used_at <= now - keys.USED_MS:
            self._note_use(caller.prefix)
        with self._lock:
            self._known[digest(key)] = (caller, time.monotonic() + KNOWN_SECONDS)
            self._known.move_to_end(digest(key))
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return caller

    def _note_use(self, prefix: str) -> None:
        try:
            with self._db.write() as session:
                keys.used(session, prefix)
        except DBAPIError as error:
            log.warning("when a key was last used could not be noted: %s", error.orig)


def needs(caller: Caller, scope: str) -> None:
    if scope not in caller.scopes:
        raise Forbidden(scope)


def bearer_of(request: Request) -> str | None:
    """What stands behind `Authorization: Bearer`. Other schemes are some proxy's own business."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else None


def refuse_other_sites(request: Request, *, by_cookie: bool) -> None:
    """On behalf of any page a browser sends cookies and reaches this machine. It says of which, and no page can lie."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    elif origin is not None:
        ours = urlsplit(origin).netloc == request.headers.get("host")
    else:
        ours = not by_cookie
    if not ours:
        raise Problem(403, "cross_site", "a page of another site asks: send it from the service's own, or with a key")


class Streams:
    """How many live streams each tenant has, and which of them have to end because their key has."""

    LOOK_SECONDS = 1.5

    def __init__(self, callers: Callers, most: int) -> None:
        self._callers = callers
        self._most = most
        self._open: dict[asyncio.Event, Caller] = {}
        self._looking: asyncio.Task[None] | None = None

    def begin(self, caller: Caller) -> asyncio.Event:
        """To be given back by `end`. It is set when the caller's key has stopped to work."""
        if sum(one.tenant == caller.tenant for one in self._open.values()) >= self._most:
            raise Problem(
                429,
                "too_many_streams",
                f"{self._most} streams of events are open: close some, or read pages",
                headers={"Retry-After": "30"},
            )
        over = asyncio.Event()
        self._open[over] = caller
        if caller.prefix is not None and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look_again_and_again(), name="keys of streams")
        return over

    @property
    def count(self) -> int:
        return len(self._open)

    def end(self, over: asyncio.Event) -> None:
        self._open.pop(over, None)

    async def _look_again_and_again(self) -> None:
        while prefixes := {caller.prefix for caller in self._open.values() if caller.prefix is not None}:
            still = await run_in_threadpool(self._callers.still, prefixes)
            for over, caller in self._open.items():
                if caller.prefix in prefixes - still:
                    over.set()
            await asyncio.sleep(self.LOOK_SECONDS)


def to_the_login(request: Request) -> LoginNeeded | None:
    """For a person at a browser: instead of a problem."""
    page = request.url.path == "/" or request.url.path.startswith("/ui")
    return LoginNeeded() if page and request.method in READING else None
