"""Stored files over HTTP: ranges, conditions and digests, streamed in pieces and never held whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from api.errors import Problem
from api.ranges import Span, Unsatisfiable, matches, repr_digest, span_of
from services.artifacts import Store

# Large enough that a thread's round trip costs nothing beside the read, small beside a process.
PIECE_BYTES = 256 * 1024


def send(
    request: Request, store: Store, *, sha256: str, size: int, media_type: str, filename: str | None = None
) -> Response:
    """The answer to GET or HEAD of a stored file. Its ETag is its sha256, so it holds for ever."""
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
    span = asked_span(request, etag, size)
    status, wanted = 200, Span(0, size - 1)
    if span is not None:
        status, wanted = 206, span
        headers["Content-Range"] = f"bytes {span.first}-{span.last}/{size}"
    headers["Content-Length"] = str(wanted.length)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    # Opened before the answer begins: a file that can't be read is then a problem and no broken stream.
    pieces = _pieces(store.open(sha256), wanted)
    return StreamingResponse(pieces, status_code=status, headers=headers, media_type=media_type)


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
            headers={"Content-Range": f"bytes */{size}"},
        ) from None


def _pieces(file: BinaryIO, span: Span) -> Iterator[bytes]:
    with file:
        file.seek(span.first)
        left = span.length
        while left > 0:
            piece = file.read(min(left, PIECE_BYTES))
            if not piece:
                raise OSError("a stored file ended too early")
            left -= len(piece)
            yield piece
