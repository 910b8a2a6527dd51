"""The API's own description: a document for programs, and a page for people that loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

from api.router import Router

router = Router(include_in_schema=False)

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
pre{background:#8881;padding:.7rem;overflow:auto}code{font-family:ui-monospace,monospace}td,th{text-align:left;
padding:.1rem 1rem .1rem 0;vertical-align:top}h3{margin-top:2.5rem}:root{color-scheme:light dark}"""

# Nothing but the page's own style: no script, no picture, no font, nobody else's frame.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


@router.get("/openapi.json")
def openapi(request: Request) -> Response:
    return Response(to_json(request.app.openapi()), media_type="application/json")


@router.get("/docs")
def manual(request: Request) -> Response:
    document = request.app.openapi()
    page = "".join(_page(document))
    return Response(page, headers={"Content-Security-Policy": POLICY}, media_type="text/html; charset=utf-8")


def _page(document: dict[str, Any]) -> Iterator[str]:
    title = escape(document["info"]["title"])
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}: the API</title><style>{STYLE}</style>"
    yield "<meta name=viewport content='width=device-width'>"
    yield f"<h1>{title}</h1><p>{escape(document['info']['description'])}"
    yield "<p>For programs: <a href=/openapi.json>openapi.json</a>, from which clients can be generated.</p>"
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>"
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    yield from _operation(method, path, operation)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h3><code>{method.upper()} {escape(path)}</code></h3><p><b>{escape(operation['summary'])}.</b> "
    yield escape(operation.get("description", "")) + "</p>"
    parameters = [one for one in operation.get("parameters", []) if one["in"] != "path"]
    if parameters:
        rows = (
            f"<tr><td><code>{escape(one['name'])}</code><td>{one['in']}<td>{escape(one.get('description', ''))}"
            for one in parameters
        )
        yield f"<table>{''.join(rows)}</table>"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if "example" in content:
            yield f"<p>A body:<pre><code>{escape(json.dumps(content['example'], indent=2))}</code></pre>"
    answers = (
        f"<tr><td><code>{status}</code><td>{escape(answer['description'])}"
        for status, answer in operation["responses"].items()
        if status != "default"
    )
    yield f"<table>{''.join(answers)}</table>"
