"""Whom a request is meant for. A web page that has its own name lead to this machine is not the service's owner."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Problem
from services.keys import is_loopback
from services.settings import Settings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def names_of(settings: Settings) -> frozenset[str] | None:
    """The names that the service goes by; None where it is open to others, who may call it by any."""
    if not is_loopback(settings.host):
        return None
    public = urlsplit(settings.public_url or "").hostname
    return LOOPBACK | {settings.host.lower()} | ({public} if public else set())


class OnlyOwnNames:
    """Refuses requests for other hosts before anything is made of them."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_meant(scope):
            refusal = Problem(
                421,
                "unknown_host",
                "the Host header names another machine: use the service's own address, or localhost",
            )
            return await refusal.response()(scope, receive, send)
        return await self._app(scope, receive, send)

    def _is_meant(self, scope: Scope) -> bool:
        said = [value for name, value in scope["headers"] if name == b"host"]
        try:
            return len(said) == 1 and urlsplit(f"//{said[0].decode('latin-1')}").hostname in self._names
        except ValueError:
            return False
