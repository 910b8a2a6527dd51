"""How a command reaches the service: its two options, and the client that they make."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

Url = Annotated[
    str | None, typer.Option("--url", envvar="PURL_URL", help="the service's address [default: http://127.0.0.1:8000]")
]
AsJson = Annotated[bool, typer.Option("--json", help="what the service said, as JSON")]


def client(url: str | None) -> Any:
    from purlkit.client import PurlClient

    return PurlClient(url, patience=float(os.environ.get("PURL_PATIENCE", "60")))
