"""What the service refuses, as exceptions: a class for each thing to be done about it, and `code` says which it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from purlkit.errors import PurlError


@dataclass(frozen=True)
class Blame:
    """One field of the request that the service names."""

    pointer: str
    detail: str


class Problem(PurlError):
    """Base of all, and the class of a code that this version does not know: a newer service may have more."""

    code = "problem"

    def __init__(self, message: str, *, status: int, code: str, blames: Sequence[Blame] = ()) -> None:
        blamed = [f"{blame.pointer or '/'}: {blame.detail}" for blame in blames]
        # Nothing twice: the message often is what the fields are blamed for.
        alone = [] if message in [blame.detail for blame in blames] else [message]
        super().__init__("\n  ".join([*alone, *(line for line in blamed if line not in message)]))
        self.status = status
        self.code = code
        self.blames = tuple(blames)


class NotFound(Problem):
    """There is no such job, artifact or file."""


class InvalidRequest(Problem):
    """A field is to blame; `blames` names each."""


class IllegalMove(Problem):
    """The job's state does not allow it."""


class IdempotencyMismatch(Problem):
    """This key came with another body before."""


class Unauthorized(Problem):
    """No key, or one that does not open this."""


class Busy(Problem):
    """A quota is used up, or too much at once; it was tried again for as long as the client's patience lasted."""


class StoreFull(Problem):
    """The service has no room left."""


class Unreachable(PurlError):
    """No answer from the service within the client's patience."""

    code = "unreachable"


class DownloadDamaged(PurlError):
    """What arrived is not what the service says it has."""

    code = "download_damaged"


class JobDidNotSucceed(PurlError):
    """The job ended, but without a result."""

    code = "job_did_not_succeed"


class NotYet(PurlError):
    """The job had not ended when the time was up. It goes on; wait again."""

    code = "not_yet"


_BY_CODE: dict[str, type[Problem]] = {
    "not_found": NotFound,
    "illegal_move": IllegalMove,
    "idempotency_mismatch": IdempotencyMismatch,
    "unauthorized": Unauthorized,
    "store_full": StoreFull,
}
_BY_STATUS: dict[int, type[Problem]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Busy,
    507: StoreFull,
}


def problem_of(response: httpx.Response) -> Problem:
    """The exception of an answer that refuses. What stands between may answer in its own way: that is told as it is."""
    try:
        told: Any = response.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        told = {}
    code = str(told.get("code", f"http_{response.status_code}"))
    fallback = f"the service answered {response.status_code} {response.reason_phrase}"
    blames = [
        Blame(pointer=str(one.get("pointer", "")), detail=str(one.get("message", "")))
        for one in told.get("errors") or ()
        if isinstance(one, dict)
    ]
    kind = _BY_CODE.get(code) or _BY_STATUS.get(response.status_code, Problem)
    return kind(str(told.get("detail", fallback)), status=response.status_code, code=code, blames=blames)
