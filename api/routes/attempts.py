"""What a worker asks and says, under the token of its one attempt. Every write is fenced in services.attempts."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api import docs
from api.body import chunks, json_body
from api.deps import Parts, StoreDep, TokenDep, WholeDatabaseDep, WholeDep
from api.downloads import send
from api.router import Router
from api.schemas import FinishView, LogView, StoredView
from api.uploads import announced_digest, into_store, media_type
from purlkit.results import AttemptBrief, Finish, Heartbeat, HeartbeatAnswer, WorkerEvents
from purlkit.spec import JobSpec, Uploaded
from services import attempts, jobs, weights
from services.artifacts import Blob
from services.errors import NotFound
from services.tables import Attempt


def _known(attempt_id: str, token: TokenDep, db: WholeDatabaseDep) -> Attempt:
    """Nobody else's body is read. Whether it still has a say is asked where something is done."""
    with db.read() as session:
        return attempts.authenticate(session, attempt_id, token, ended_ok=True)


KnownDep = Annotated[Attempt, Depends(_known)]


router = Router(
    prefix="/attempts/{attempt_id}",
    tags=["worker"],
    responses=docs.problems(p401=docs.NO_TOKEN, p409=docs.STALE),
    dependencies=[Depends(_known)],
)

# A worker sends a few seconds of its log at a time.
MAX_LOG_BYTES = 256 * 1024

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


@router.get("", summary="All that a worker needs to start")
def get_attempt(attempt_id: str, token: TokenDep, db: WholeDatabaseDep) -> AttemptBrief:
    with db.read() as session:
        return attempts.brief(session, attempts.authenticate(session, attempt_id, token))


@router.get("/saved/{name}", summary="Work that an earlier attempt saved", response_class=Response)
def get_saved(
    attempt_id: str, name: Name, token: TokenDep, request: Request, db: WholeDatabaseDep, store: StoreDep
) -> Response:
    with db.read() as session:
        attempt = attempts.authenticate(session, attempt_id, token)
        saved = attempts.find_saved(session, attempt, name)
    return send(request, store, sha256=saved.sha256, size=saved.bytes, media_type="application/octet-stream")


@router.get("/weights", summary="The uploaded weights that the spec names", response_class=Response)
def get_attempt_weights(
    attempt_id: str, token: TokenDep, request: Request, db: WholeDatabaseDep, store: StoreDep
) -> Response:
    with db.read() as session:
        attempt = attempts.authenticate(session, attempt_id, token)
        spec = JobSpec.model_validate(jobs.get(session, attempt.job_id).spec)
        chosen = spec.model.weights
        found = weights.find(session, chosen.sha256) if isinstance(chosen, Uploaded) else None
    if found is None:
        raise NotFound("upload")
    return send(request, store, sha256=found.sha256, size=found.bytes, media_type="application/octet-stream")


@router.post("/heartbeat", summary="Still alive", openapi_extra=docs.json_request(Heartbeat))
def heartbeat(
    attempt: KnownDep, beat: Annotated[Heartbeat, Depends(json_body(Heartbeat))], db: WholeDatabaseDep
) -> HeartbeatAnswer:
    """Renews the lease; the answer carries what was asked of the job meanwhile."""
    with db.write() as session:
        return attempts.heartbeat(session, attempt, beat)


@router.post(
    "/events", status_code=204, summary="What happened, in order", openapi_extra=docs.json_request(WorkerEvents)
)
def record_events(
    attempt: KnownDep, batch: Annotated[WorkerEvents, Depends(json_body(WorkerEvents))], db: WholeDatabaseDep
) -> None:
    """Events that are here already are passed over: sending a batch again is fine."""
    with db.write() as session:
        attempts.record_events(session, attempt, batch)


@router.put(
    "/saved/{name}",
    summary="Save work for a later attempt",
    response_model=StoredView,
    openapi_extra=docs.bytes_request("the work; Repr-Digest is required"),
)
async def put_saved(attempt_id: str, name: Name, token: TokenDep, request: Request, parts: WholeDep) -> Response:
    """Replaces what was saved under that name before; usable at once."""
    blob = await _receive(request, parts, attempt_id, token)

    def record() -> None:
        with parts.db.write() as session:
            attempts.save_work(session, attempts.authenticate(session, attempt_id, token), name, blob)

    await run_in_threadpool(record)
    return _stored(blob)


@router.put(
    "/artifacts/{name}",
    summary="Upload a file of the job",
    response_model=StoredView,
    openapi_extra=docs.bytes_request("the file; Repr-Digest is required"),
)
async def put_artifact(attempt_id: str, name: Name, token: TokenDep, request: Request, parts: WholeDep) -> Response:
    """Staged until `finish` names it. The same bytes again are fine, others are refused; the log may be replaced."""
    blob = await _receive(request, parts, attempt_id, token)

    def record() -> None:
        with parts.db.write() as session:
            attempt = attempts.authenticate(session, attempt_id, token)
            attempts.stage_artifact(session, attempt, name, blob, media_type(request))

    await run_in_threadpool(record)
    return _stored(blob)


@router.post(
    "/log",
    summary="What the attempt says, while it says it",
    openapi_extra=docs.bytes_request("the next bytes of its log"),
)
async def append_log(
    attempt_id: str,
    token: TokenDep,
    request: Request,
    parts: WholeDep,
    start: Annotated[int, Query(ge=0, le=2**40, description="where in the log these bytes begin")],
) -> LogView:
    """Bytes that are here already are passed over: sending them again is fine. The file that the attempt uploads as
    its log at the end replaces all of them."""
    data = b"".join([chunk async for chunk in chunks(request, MAX_LOG_BYTES)])

    def record() -> int:
        with parts.db.write() as session:
            return attempts.append_log(session, attempts.authenticate(session, attempt_id, token), start, data)

    return LogView(bytes=await run_in_threadpool(record))


@router.post("/finish", summary="The attempt's last word", openapi_extra=docs.json_request(Finish))
def finish(
    attempt_id: str, token: TokenDep, last_word: Annotated[Finish, Depends(json_body(Finish))], db: WholeDatabaseDep
) -> FinishView:
    """One transaction; repeating the same is fine."""
    with db.write() as session:
        attempt = attempts.authenticate(session, attempt_id, token, ended_ok=True)
        return FinishView(job_state=attempts.finish(session, attempt, last_word).state)


async def _receive(request: Request, parts: Parts, attempt_id: str, token: str) -> Blob:
    """Stores the body. Who sends it is asked before the first byte, and again when the row is written."""

    def authenticate() -> None:
        with parts.db.read() as session:
            attempts.authenticate(session, attempt_id, token)

    await run_in_threadpool(authenticate)
    sha256 = announced_digest(request, required=True)
    return await into_store(request, parts, sha256=sha256)


def _stored(blob: Blob) -> Response:
    view = StoredView(sha256=blob.sha256, bytes=blob.bytes)
    return Response(view.model_dump_json(), media_type="application/json")
