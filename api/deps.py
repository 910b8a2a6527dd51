"""What routes are given: the parts that main.create_app wired, the caller's token, and nothing global."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.recall import Recall
from api.represent import JobsJson
from api.sweeping import SweepTables
from api.watching import Hub
from services.artifacts import Store
from services.database import Database
from services.errors import Unauthorized
from services.gauges import Gauges
from services.launch import Launcher
from services.settings import Settings

# A check imports torch and builds a model: a core and a few hundred megabytes for some seconds.
CHECKS_AT_ONCE = 2


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that a request may need, made once for the process."""

    db: Database
    settings: Settings
    store: Store
    launcher: Launcher
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHECKS_AT_ONCE))
    jobs_json: JobsJson = field(default_factory=JobsJson)
    sweep_tables: SweepTables = field(default_factory=SweepTables)
    keys_in_flight: set[str] = field(default_factory=set)  # of POSTs that have not been answered yet

    @cached_property
    def recall(self) -> Recall:
        return Recall(self.db)

    @cached_property
    def hub(self) -> Hub:
        return Hub(self.db, self.settings.poll_seconds, self.stopping)

    @cached_property
    def gauges(self) -> Gauges:
        return Gauges(self.db)


# These are coroutines though they wait for nothing: FastAPI calls plain functions in a thread, each for itself.
async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]


async def _db(parts: PartsDep) -> Database:
    return parts.db


async def _settings(parts: PartsDep) -> Settings:
    return parts.settings


async def _store(parts: PartsDep) -> Store:
    return parts.store


DatabaseDep = Annotated[Database, Depends(_db)]
SettingsDep = Annotated[Settings, Depends(_settings)]
StoreDep = Annotated[Store, Depends(_store)]

_bearer = HTTPBearer(auto_error=False, scheme_name="attempt", description="the token of one attempt or one check")


async def _token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    if credentials is None or not credentials.credentials:
        raise Unauthorized
    return credentials.credentials


TokenDep = Annotated[str, Depends(_token)]
