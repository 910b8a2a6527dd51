"""Templates as responses. What a caller wrote is text: everything is escaped, and the policy runs nothing inline."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.ranges import matches
from purlkit.report.charts import percent, title_of
from services.keys import ANYBODY

HERE = Path(__file__).parent
STATIC = HERE / "static"

POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page; one that is as the reader has it already is not sent again."""
    said = _templates().get_template(template).render(here=request.url.path, **_reader(request), **values)
    return send(request, said.encode(), "text/html; charset=utf-8", status)


def _reader(request: Request) -> dict[str, bool]:
    """Whether the page is open to anybody, and whether there is somebody who could leave."""
    asking = getattr(request.state, "caller", None)
    return {"open": asking is ANYBODY, "entered": asking is not None and asking is not ANYBODY}


def static(request: Request, name: str) -> Response | None:
    """One of our own files; None for any other name."""
    found = _static().get(name)
    return None if found is None else send(request, *found)


def send(request: Request, body: bytes, media_type: str, status: int = 200) -> Response:
    etag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = {**HEADERS, "ETag": etag}
    if status == 200 and matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, status, headers, media_type=media_type)


@cache
def _static() -> dict[str, tuple[bytes, str]]:
    return {path.name: (path.read_bytes(), MEDIA_TYPES[path.suffix]) for path in STATIC.iterdir()}


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "candidate": title_of,
        "moment": moment,
        "duration": duration,
        "size": size,
        "json": lambda value: json.dumps(value, ensure_ascii=False),
    }
    return environment


def moment(said: str | datetime) -> str:
    """A time as the API says it, for a reader: to the second, of UTC."""
    try:
        when = said if isinstance(said, datetime) else datetime.fromisoformat(said)
    except ValueError:
        return str(said)
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """In the two largest units."""
    whole = round(seconds)
    units = (("d", whole // 86_400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60))
    first = next((place for place, (_, count) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for unit, count in units[first : first + 2] if count) or "0 s"


def size(count: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"
