"""How a command reaches the service: its two options, and the client that they make."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

Url = Annotated[
    str | None, typer.Option("--url", envvar="PURL_URL", help="the service's address [default: http://127.0.0.1:8000]")
]
AsJson = Annotated[bool, typer.Option("--json", help="what the service said, as JSON")]


# Whoever typed a wrong address, or has not started the service, wants to know it at once.
FIRST_SECONDS = 5.0


def client(url: str | None) -> Any:
    from purlkit.client import PurlClient

    patience = os.environ.get("PURL_PATIENCE")
    if patience is not None:
        return PurlClient(url, patience=_seconds(patience))
    return PurlClient(url, at_first=FIRST_SECONDS)


def _seconds(text: str) -> float:
    from purlkit.errors import InvalidSpec

    try:
        return float(text)
    except ValueError:
        raise InvalidSpec(f"PURL_PATIENCE is {text!r}", remedy="give the seconds to try for, for example 60") from None
