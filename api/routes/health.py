"""Is it alive, and can it work."""

from __future__ import annotations

import logging
from typing import Literal

from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from api import docs
from api.deps import SettingsDep, StoreDep, WholeDatabaseDep
from api.errors import Problem
from api.router import Router
from purlkit.errors import PurlError
from services.artifacts import Store
from services.database import Database, check_schema
from services.disk import check_room
from services.errors import StoreFull

log = logging.getLogger(__name__)

router = Router(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/livez", summary="The process answers")
async def livez() -> Health:
    return Health()


@router.get("/readyz", summary="Database and store answer", responses=docs.problems(p503="one of them does not"))
def readyz(db: WholeDatabaseDep, store: StoreDep, settings: SettingsDep) -> Health:
    """Whoever routes requests should send none here while this is not 200."""
    failing = [name for name, works in (("database", _database(db)), ("store", _store(store))) if not works]
    if failing:
        raise Problem(503, "not_ready", f"does not answer: {', '.join(failing)}; the service's log has the cause")
    try:
        check_room(settings)
    except StoreFull as full:
        raise Problem(503, "not_ready", str(full)) from None
    return Health()


def _database(db: Database) -> bool:
    try:
        check_schema(db)
    except (SQLAlchemyError, PurlError):
        log.exception("the database does not answer")
        return False
    return True


def _store(store: Store) -> bool:
    try:
        store.check()
    except PurlError:
        log.exception("the store does not answer")
        return False
    return True
