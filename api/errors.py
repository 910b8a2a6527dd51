"""Every refusal in one shape: application/problem+json of RFC 9457, with a stable `code` and the fields to blame.

A problem never carries what the caller sent: only names of fields, and words of our own.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.router import allowed
from purlkit.errors import PurlError
from services import errors as service
from services.database import is_full

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# What a browser's developer tools and our own client can both bear.
LONGEST_POINTER = 500


class FieldError(BaseModel):
    """One field to blame: by JSON pointer into the body, or by the name of a parameter of the query or a header."""

    pointer: str | None = Field(None, description="RFC 6901, into the request's body")
    parameter: str | None = Field(None, description="the query parameter or header")
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] = []


class Problem(Exception):
    """A refusal on its way to the client."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def document(self) -> ProblemDocument:
        return ProblemDocument(
            type=f"urn:purl:problem:{self.code}",
            title=self.code.replace("_", " ").capitalize(),
            status=self.status,
            detail=str(self),
            code=self.code,
            errors=self.errors,
        )

    def response(self) -> Response:
        said = self.document().model_dump(exclude_none=True)
        return JSONResponse(said, self.status, headers=self.headers, media_type=MEDIA_TYPE)


class LoginNeeded(Exception):
    """A person has come to a page without a key."""


def pointer(*parts: str | int) -> str:
    """The JSON pointer of a path into the body."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in escaped)[:LONGEST_POINTER]


def blame_field(code: str, at: str, message: str, *, status: int = 422) -> Problem:
    """A problem with one field of the body."""
    return Problem(status, code, message, errors=[FieldError(pointer=at, message=message)])


def blame_parameter(code: str, parameter: str, message: str, *, status: int = 422) -> Problem:
    """A problem with one query parameter or header."""
    return Problem(status, code, message, errors=[FieldError(parameter=parameter, message=message)])


def _of_parameters(exc: RequestValidationError) -> Problem:
    """FastAPI checks only paths, queries and headers here: api.body checks every body."""
    errors = [FieldError(parameter=str(error["loc"][1]), message=error["msg"]) for error in exc.errors()]
    named = ", ".join(f"{error.parameter}: {error.message}" for error in errors)
    return Problem(422, "invalid_parameter", named, errors=errors)


def of_router(exc: HTTPException, allow: str) -> Problem:
    """What Starlette refuses before a route is reached."""
    problem = _of_framework(exc)
    if problem.status == 405:
        problem.headers["Allow"] = allow
    return problem


FRAMEWORK = {
    404: ("not_found", "there is nothing at this address; GET /openapi.json lists every route"),
    405: ("method_not_allowed", "this address does not take that method; the Allow header lists what it takes"),
}


def _of_framework(exc: HTTPException) -> Problem:
    phrase = http.HTTPStatus(exc.status_code).phrase
    code, detail = FRAMEWORK.get(exc.status_code, (phrase.lower().replace(" ", "_"), phrase))
    return Problem(exc.status_code, code, detail, headers=exc.headers)


# What a refusal of the durable state is in HTTP. Any other PurlError is a fault in the body: 422.
STATUS: Mapping[type[PurlError], int] = {
    service.NotFound: 404,
    service.IllegalMove: 409,
    service.IdempotencyMismatch: 422,
    service.QueueFull: 429,
    service.StorageQuota: 429,
    service.Unauthorized: 401,
    service.Forbidden: 403,
    service.AttemptSuperseded: 409,
    service.EventGap: 409,
    service.LogGap: 409,
    service.ArtifactConflict: 409,
    service.DigestMismatch: 400,
    service.TooLarge: 413,
    service.StoreFull: 507,
    service.StoreUnavailable: 503,
    service.SweptMeanwhile: 503,
    service.LaunchFailed: 503,
    service.SchemaMismatch: 503,
    service.BadSetting: 500,
}


# A queue moves with every job that ends; bytes are freed by hand.
_HEADERS: Mapping[type[PurlError], dict[str, str]] = {
    service.Unauthorized: {"WWW-Authenticate": "Bearer"},
    service.QueueFull: {"Retry-After": "30"},
    service.StorageQuota: {"Retry-After": "300"},
}


def _of_purl(exc: PurlError) -> Problem:
    headers = _HEADERS.get(type(exc))
    errors = [FieldError(pointer=exc.at, message=str(exc))] if exc.at is not None else []
    return Problem(STATUS.get(type(exc), 422), exc.code, str(exc), errors=errors, headers=headers)


def _busy() -> Problem:
    return Problem(
        503, "database_unavailable", "the database does not answer: try again in a moment", headers={"Retry-After": "1"}
    )


def _unexpected() -> Problem:
    return Problem(500, "internal_error", "this is a fault of the service: its log has the cause; trying again is safe")


def install(app: FastAPI) -> None:
    """Every exception that can leave a route becomes a problem here, and nowhere else."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, exc: Problem) -> Response:
        return exc.response()

    @app.exception_handler(PurlError)
    async def _purl(_: Request, exc: PurlError) -> Response:
        return _of_purl(exc).response()

    @app.exception_handler(LoginNeeded)
    async def _login(_: Request, exc: LoginNeeded) -> Response:  # noqa: ARG001
        return RedirectResponse("/ui/login", 303)

    @app.exception_handler(RequestValidationError)
    async def _parameters(_: Request, exc: RequestValidationError) -> Response:
        return _of_parameters(exc).response()

    @app.exception_handler(HTTPException)
    async def _framework(request: Request, exc: HTTPException) -> Response:
        return of_router(exc, allowed(request.app.state.routes, request.scope)).response()

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(InternalError)
    @app.exception_handler(PoolTimeout)
    @app.exception_handler(StaleDataError)
    async def _database(_: Request, exc: Exception) -> Response:
        log.warning("the database does not answer: %s", getattr(exc, "orig", exc))
        if is_full(exc):
            return _of_purl(service.StoreFull()).response()
        return _busy().response()

    @app.exception_handler(ClientDisconnect)
    async def _gone(_: Request, exc: ClientDisconnect) -> Response:  # noqa: ARG001
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(Exception)
    async def _fault(_: Request, exc: Exception) -> Response:  # noqa: ARG001
        return _unexpected().response()
