"""Stored files over HTTP: ranges, conditions and digests, streamed in pieces and never held whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.errors import Problem
from api.ranges import Span, Unsatisfiable, matches, repr_digest, span_of
from services.artifacts import Store

# Large enough that a thread's round trip costs nothing beside the read, small beside a process.
PIECE_BYTES = 256 * 1024

# A client that was sent elsewhere has so long to begin there.
LINK_SECONDS = 600


def send(
    request: Request,
    store: Store,
    *,
    sha256: str,
    size: int,
    media_type: str,
    filename: str | None = None,
    redirect: bool = False,
) -> Response:
    """The answer to GET or HEAD of a stored file. Its ETag is its sha256, so it holds for ever.

    With `redirect` a store that can give the bytes itself is asked to; the client sends its Range on to it.
    """
    etag = f'"{sha256}"'
    headers = {
        "ETag": etag,
        "Repr-Digest": repr_digest(sha256),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }
    if filename is not None:
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    if matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    link = store.link(sha256, seconds=LINK_SECONDS) if redirect else None
    if link is not None:
        return RedirectResponse(link, 307, headers={"Cache-Control": "no-store"})
    span = asked_span(request, etag, size)
    status, wanted = 200, Span(0, size - 1)
    if span is not None:
        status, wanted = 206, span
        headers["Content-Range"] = f"bytes {span.first}-{span.last}/{size}"
    headers["Content-Length"] = str(wanted.length)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    # Opened before the answer begins: a file that can't be read is then a problem and no broken stream.
    file = store.open(sha256, first=wanted.first, last=wanted.last)
    return _Sending(file, wanted.length, status_code=status, headers=headers, media_type=media_type)


def asked_span(request: Request, etag: str, size: int) -> Span | None:
    """The part that is wanted; None for all of it."""
    if request.method != "GET":
        return None
    try:
        return span_of(request.headers, etag, size)
    except Unsatisfiable:
        raise Problem(
            416,
            "range_not_satisfiable",
            f"there are {size} bytes: ask for a range within them",
            headers={"Content-Range": f"bytes */{size}"} | ({"ETag": etag} if etag else {}),
        ) from None


class _Sending(StreamingResponse):
    """A part of a file, which is closed also where the reader goes away in the middle of it."""

    def __init__(self, file: BinaryIO, size: int, **answer: Any) -> None:
        super().__init__(_pieces(file, size), **answer)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _pieces(file: BinaryIO, left: int) -> Iterator[bytes]:
    while left > 0:
        piece = file.read(min(left, PIECE_BYTES))
        if not piece:
            raise OSError("a stored file ended too early")
        left -= len(piece)
        yield piece
