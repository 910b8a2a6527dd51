"""Dense weights of the caller's own."""

from __future__ import annotations

import io

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from api import docs
from api.body import content_type
from api.deps import Parts, PartsDep
from api.errors import blame_parameter
from api.represent import moment
from api.router import Router
from api.routes.jobs import Cursor, Limit
from api.schemas import Page, UploadedView, UploadView
from api.uploads import announced_digest, into_store
from purlkit.header import MAX_HEADER_BYTES, TensorInfo, read_header
from services import quotas, weights
from services.artifacts import Blob
from services.quotas import Quotas

router = Router(tags=["weights"])

# Types that a page of somebody else's can't send without the browser asking first.
MEDIA_TYPES = ("application/octet-stream", "application/x-safetensors")


class _Header:
    """Catches the file's first bytes as they pass, so that it is checked before it is stored."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._wanted = 8
        self.tensors: dict[str, TensorInfo] = {}

    def look(self, piece: bytes) -> None:
        taken = len(self._bytes)
        self._bytes += piece[: self._wanted - taken]
        if taken < 8 <= len(self._bytes):
            length = int.from_bytes(self._bytes[:8], "little")
            if length > MAX_HEADER_BYTES:
                self.accept(len(self._bytes))  # the reader says what is wrong
            self._wanted = 8 + length
            self._bytes += piece[8 - taken :][:length]

    def accept(self, size: int) -> None:
        self.tensors = read_header(io.BytesIO(self._bytes), size)


@router.post(
    "/weights",
    status_code=201,
    summary="Upload dense weights as safetensors",
    response_model=UploadView,
    openapi_extra=docs.bytes_request("a safetensors file; Repr-Digest is checked if it is sent"),
    responses={
        200: {"model": UploadView, "description": "the same file was uploaded before"},
        **docs.problems(
            p400="the bytes don't match the Repr-Digest that was sent",
            p413="the file is too large",
            p415="it is not declared as application/octet-stream",
            p422="it is not a safetensors file that we accept: bad_weights_file",
            p429="the store is full: storage_quota",
            p507="the disk is full",
        ),
    },
)
async def upload_weights(request: Request, parts: PartsDep) -> Response:
    """The file goes under its sha256, which a spec then names as {"model": {"weights": {"sha256": "…"}}}."""
    if content_type(request) not in MEDIA_TYPES:
        raise blame_parameter(
            "unsupported_media_type", "Content-Type", f"send the file as {' or '.join(MEDIA_TYPES)}", status=415
        )
    await run_in_threadpool(_check_room, parts, request.headers.get("content-length", ""))
    header = _Header()
    blob = await into_store(
        request,
        parts,
        sha256=announced_digest(request, required=False),
        look=header.look,
        accept=header.accept,
    )
    view, known = await run_in_threadpool(_record, parts, blob, len(header.tensors))
    return Response(view.model_dump_json(), 200 if known else 201, media_type="application/json")


@router.get(
    "/weights",
    summary="The weights that were uploaded and are kept",
    response_model=Page[UploadedView],
    responses=docs.problems(p422="a parameter is to blame"),
)
def list_weights(parts: PartsDep, limit: Limit = 50, after: Cursor = None) -> Page[UploadedView]:
    """In the order of their sha256."""
    with parts.db.read() as session:
        page = weights.page(session, limit=limit, after=after)
        data = [
            UploadedView(sha256=row.sha256, bytes=row.bytes, tensors=row.tensors, created_at=moment(row.created_at))
            for row in page.items
        ]
    return Page[UploadedView](data=data, has_more=page.has_more, next=page.next)


def _check_room(parts: Parts, announced: str) -> None:
    more = int(announced[:18]) if announced.isdecimal() else 0
    with parts.db.read() as session:
        quotas.check_storage(session, Quotas.of(parts.settings), more=more)


def _record(parts: Parts, blob: Blob, tensors: int) -> tuple[UploadView, bool]:
    with parts.db.write() as session:
        known = weights.find(session, blob.sha256) is not None
        row = weights.record(session, blob, tensors)
        return UploadView(sha256=row.sha256, bytes=row.bytes, tensors=row.tensors), known
