"""Where the service is, and how a connection to it is set up."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import httpx

from purlkit.errors import InvalidSpec

VARIABLE = "PURL_URL"
DEFAULT = "http://127.0.0.1:8000"

# Longer than the silence between two heartbeats of an event stream.
READ_SECONDS = 45.0


def address(url: str | None) -> str:
    """The given one, else the environment's, else that of `make serve` on this machine."""
    url = (url or os.environ.get(VARIABLE) or DEFAULT).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSpec("the service's address can't be used", remedy=f"give one like {DEFAULT}, or set {VARIABLE}")
    return url


def environment(url: str, key: str | None) -> dict[str, Any]:
    """Arguments of either of httpx's clients."""
    key = key or os.environ.get("PURL_API_KEY")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(30.0, read=READ_SECONDS),
        "follow_redirects": False,
        # A service on this machine is not behind anybody's proxy.
        "trust_env": urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"),
    }
