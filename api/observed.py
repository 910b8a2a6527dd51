"""Around every request: its id, its time, and one line for it where logs are read by machines."""

from __future__ import annotations

import re
import time
from http import HTTPMethod

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services import logs, metrics
from services.ids import new_id

# Asked for every few seconds by whoever watches the process: nobody wants to read of it.
UNTOLD = frozenset({"/livez", "/readyz", "/metrics"})
# An id that a proxy or a caller has given its request: short, and harmless in a log.
GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
ABOUT = re.compile(r"^/(job|attempt)s/((?:job|att)_[0-9a-z]{26})(?:/|$)")


class Observed:
    """The time of a request is that to the answer's head: a stream of events may go on for hours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, answered = time.perf_counter(), False
        request_id = _id_of(scope)

        async def sending(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                _note(scope, message["status"], time.perf_counter() - began)
            await send(message)

        with logs.about(request_id=request_id, **_names_in(scope["path"])):
            try:
                await self._app(scope, receive, sending)
            except Exception:
                # What answers it stands outside of us: api.errors, with a 500.
                if not answered:
                    _note(scope, 500, time.perf_counter() - began)
                raise
        return None


def _note(scope: Scope, status: int, seconds: float) -> None:
    """By the route's template: addresses are without number, and so are the methods that somebody may think of."""
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in HTTPMethod.__members__ else "other"
    metrics.REQUESTS.labels(method, route, str(status)).inc()
    metrics.LATENCY.labels(method, route).observe(seconds)
    if route not in UNTOLD:
        told = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        logs.ACCESS.info("%s %s %d", method, route, status, extra={"fields": told})


def _id_of(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if GIVEN_ID.fullmatch(given) else new_id("req")


def _names_in(path: str) -> dict[str, str]:
    found = ABOUT.match(path)
    return {f"{found[1]}_id": found[2]} if found else {}
