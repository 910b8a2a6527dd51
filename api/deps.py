"""What routes are given: the parts that main.create_app wired, as the caller may see them, and nothing global."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.callers import READING, Callers, Streams, needs, to_the_login
from api.recall import Recall
from api.represent import JobsJson
from api.sweeping import SweepTables
from api.watching import Hub
from purlkit.results import Sight
from services.artifacts import Store
from services.database import Database
from services.errors import Unauthorized
from services.gauges import Gauges
from services.keys import ANYBODY, Caller, is_loopback
from services.launch import Launcher
from services.settings import Settings

# A check imports torch and builds a model: a core and a few hundred megabytes for some seconds.
CHECKS_AT_ONCE = 2


@dataclass
class Looking:
    """Workers are asked what they see by one request at a time; one who waited meanwhile takes what that one got."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    in_vain: list[Sight] = field(default_factory=list)  # what was said when they could not be asked
    in_vain_at: float = 0.0  # by time.monotonic


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that a request may need, made once for the process; `theirs` is what a request gets of it."""

    db: Database
    settings: Settings
    store: Store
    launcher: Launcher
    caller: Caller = ANYBODY
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHECKS_AT_ONCE))
    looking: Looking = field(default_factory=Looking)  # of GET /datasets, where workers must be asked
    jobs_json: JobsJson = field(default_factory=JobsJson)
    sweep_tables: SweepTables = field(default_factory=SweepTables)
    keys_in_flight: set[tuple[str, str]] = field(default_factory=set)  # of POSTs that have not been answered yet
    callers: Callers = field(init=False)
    streams: Streams = field(init=False)
    recall: Recall = field(init=False)
    hub: Hub = field(init=False)
    gauges: Gauges = field(init=False)

    def __post_init__(self) -> None:
        """These are made of the others, and are the process's own whoever asks."""
        callers = Callers(self.db, may_be_open=is_loopback(self.settings.host))
        made = {
            "callers": callers,
            "streams": Streams(callers, self.settings.tenant_streams),
            "recall": Recall(self.db),
            "hub": Hub(self.db, self.settings.poll_seconds, self.stopping),
            "gauges": Gauges(self.db),
        }
        for name, part in made.items():
            object.__setattr__(self, name, part)

    def theirs(self, caller: Caller) -> Parts:
        """The same parts, and of the database what the caller may see."""
        parts = copy(self)
        object.__setattr__(parts, "caller", caller)
        object.__setattr__(parts, "db", self.db.of(caller.tenant))
        return parts

    def recalled(self, question: Hashable, read: Callable[[], bytes]) -> bytes:
        """One tenant's answer is never another's."""
        return self.recall.get((self.caller.tenant, question), read)


# These are coroutines though they wait for nothing: FastAPI calls plain functions in a thread, each for itself.
async def _whole(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


# For routes that are not a caller's: of workers, who show a token, and of the service's health.
WholeDep = Annotated[Parts, Depends(_whole)]


# Says so in the API's document; what is sent is read by api.callers.
_key = HTTPBearer(auto_error=False, scheme_name="key", description="an API key: python -m services keys create")


async def caller(
    request: Request,
    parts: WholeDep,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_key)] = None,
) -> Caller:
    """Whoever asks, if the request is one that the key is for. A route has to do nothing to be guarded so."""
    try:
        found = await parts.callers.of(request)
    except Unauthorized:
        raise to_the_login(request) or Unauthorized() from None
    needs(found, "read" if request.method in READING else "submit")
    request.state.caller = found
    return found


CallerDep = Annotated[Caller, Depends(caller)]


async def administrator(asking: CallerDep) -> Caller:
    needs(asking, "admin")
    return asking


async def _parts(parts: WholeDep, asking: CallerDep) -> Parts:
    return parts.theirs(asking)


PartsDep = Annotated[Parts, Depends(_parts)]


async def _db(parts: PartsDep) -> Database:
    return parts.db


async def _whole_db(parts: WholeDep) -> Database:
    return parts.db


async def _settings(parts: WholeDep) -> Settings:
    return parts.settings


async def _store(parts: WholeDep) -> Store:
    return parts.store


DatabaseDep = Annotated[Database, Depends(_db)]
WholeDatabaseDep = Annotated[Database, Depends(_whole_db)]
SettingsDep = Annotated[Settings, Depends(_settings)]
StoreDep = Annotated[Store, Depends(_store)]

_bearer = HTTPBearer(auto_error=False, scheme_name="attempt", description="the token of one attempt or one check")


async def _token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    if credentials is None or not credentials.credentials:
        raise Unauthorized
    return credentials.credentials


TokenDep = Annotated[str, Depends(_token)]
