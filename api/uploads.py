"""Request bodies into the store, piece by piece, with the digest that was announced for them."""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api.body import chunks, content_type, discard
from api.deps import Parts
from api.errors import blame_parameter
from api.ranges import read_digest
from purlkit.errors import PurlError
from services import artifacts
from services.artifacts import Blob
from services.disk import check_room

# A server's chunk is 64 KiB at most; a thread's round trip for each would cost more than the write.
BATCH_BYTES = 2**20

_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,100}/[a-z0-9.+-]{1,100}")


def announced_digest(request: Request, *, required: bool) -> str | None:
    """The sha256 in Repr-Digest; a problem where one is needed, or where there is one that can't be read."""
    header = request.headers.get("repr-digest")
    if header is None and not required:
        return None
    sha256 = read_digest(header or "")
    if sha256 is None:
        raise blame_parameter(
            "digest_required", "Repr-Digest", "send Repr-Digest: sha-256=:<base64 of the sha256>:", status=400
        )
    return sha256


def media_type(request: Request) -> str:
    """The caller's word for what it sends, if it is one; parameters are left off."""
    said = content_type(request)
    return said if _MEDIA_TYPE.fullmatch(said) else "application/octet-stream"


async def into_store(
    request: Request,
    parts: Parts,
    *,
    sha256: str | None,
    look: Callable[[bytes], None] = lambda _: None,
    accept: Callable[[int], None] = lambda _: None,
) -> Blob:
    """The body as a blob. `look` sees each piece and `accept` the size; what either raises leaves nothing behind."""
    try:
        await run_in_threadpool(check_room, parts.settings)
    except PurlError:
        await discard(request)
        raise
    with await run_in_threadpool(parts.store.begin) as writer:
        size, batch = 0, bytearray()

        def put(piece: bytes) -> None:
            look(piece)
            writer.write(piece)

        try:
            async for chunk in chunks(request, parts.settings.max_upload_bytes):
                size += len(chunk)
                batch += chunk
                if len(batch) >= BATCH_BYTES:
                    await run_in_threadpool(put, bytes(batch))
                    batch.clear()
        except PurlError:
            await discard(request)
            raise
        await run_in_threadpool(put, bytes(batch))
        await run_in_threadpool(accept, size)  # parsing a large header takes a good part of a second
        return await run_in_threadpool(artifacts.keep, parts.db, writer, sha256)
