"""What the rows of the contract share: how one is noted down, and the service's states that most begin with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import httpx

from purlkit.results import LOG
from services.testing import an_episode
from tests.integration.over_http import HttpWorker, Service

DATA = b"the pruned network"
SHA256 = hashlib.sha256(DATA).hexdigest()

Seen = tuple[httpx.Response, object, object]  # an answer, what was looked at in it, and what that should be
Row = Callable[[Service], Seen]
ROWS: dict[str, Row] = {}


def row(route: str) -> Callable[[Row], Row]:
    def note(look: Row) -> Row:
        ROWS[route] = look
        return look

    return note


def queued(service: Service) -> str:
    return str(service.submit()["links"]["self"])


def working(service: Service, **changes: Any) -> tuple[str, HttpWorker]:
    path, worker = str(service.submit(**changes)["links"]["self"]), service.claim()
    assert worker.beat().status_code == 200
    return path, worker


def ended(service: Service) -> str:
    """With an episode, a log and a checkpoint."""
    path, worker = working(service)
    assert worker.say(an_episode(0)).status_code == 204
    assert worker.stage(LOG, b"all is well\n", "text/plain").status_code == 200
    assert worker.succeed(DATA).status_code == 200
    return path
