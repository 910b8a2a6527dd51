"""Bodies of requests, bounded before they are read and checked before anything is made of them.

No route declares a body to FastAPI, so nothing but this file reads one: each with its own limit, none buffered beyond
it. Records are parsed from JSON text and not from Python objects, because their strictness is defined on JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from itertools import islice
from math import isfinite
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from api.deps import SettingsDep
from api.errors import FieldError, Problem, blame_field, blame_parameter, pointer

R = TypeVar("R", bound=BaseModel)

# Of a body that is refused for its size so much is still read, for so long, and thrown away: a client that is busy
# sending would otherwise see a reset connection and never the refusal.
DISCARD_BYTES = 64 * 2**20
DISCARD_SECONDS = 10.0

# Of a body that is announced and does not come, as of a machine that went away without a word.
STALLED_SECONDS = 60.0
# A line may be slow. One that brings less, in all the time that was waited for it, only holds what others could use.
SLOWEST_BYTES_PER_SECOND = 1000

# What is read in less time than it takes to hand it to a thread.
SHORT_BYTES = 4096

# Our deepest record has 6 levels; Python's own parser gives up at about 1,000.
DEEPEST = 32

# Of values, in lists and objects. To say of one that it is wrong costs a kilobyte and a tenth of a millisecond: of a
# megabyte of `1,` a gigabyte and half a minute. A large sweep has hundreds; what workers report has tens of thousands.
MOST_VALUES = 10_000
MOST_OF_WORKERS = 200_000

# What an integer column and every JSON reader in another language can hold.
LARGEST_INTEGER = 2**63 - 1
LONGEST_INTEGER = len(str(-LARGEST_INTEGER))

# NUL, which PostgreSQL refuses, and halves of surrogate pairs, which UTF-8 does.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")

# A body of a million faults gets an answer that a person can read.
MOST_ERRORS = 20


async def chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it arrives; 413 as soon as it is known to be longer than `limit`, by its own word or by count."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise blame_parameter(
            "unsupported_encoding", "Content-Encoding", "send the body as it is, without compression", status=415
        )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        if "expect" not in request.headers:
            await discard(request)
        raise _too_large(limit)
    received = 0
    async for chunk in _arriving(request):
        received += len(chunk)
        if received > limit:
            await discard(request)
            raise _too_large(limit)
        yield chunk


async def _arriving(request: Request) -> AsyncIterator[bytes]:
    """However long a body takes, it must come on: what waits for the rest would wait for ever."""
    pieces = aiter(request.stream())
    received, waited, clock = 0, 0.0, asyncio.get_running_loop().time
    while True:
        in_all = STALLED_SECONDS + received / SLOWEST_BYTES_PER_SECOND
        began = clock()
        try:
            async with asyncio.timeout(max(0.0, min(STALLED_SECONDS, in_all - waited))):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise Problem(
                408,
                "body_stalled",
                f"the body comes too slowly: within {STALLED_SECONDS:g} s something must come, and at least "
                f"{SLOWEST_BYTES_PER_SECOND} bytes a second in the long run; send it again",
                headers={"Connection": "close"},
            ) from None
        if piece is None:
            return
        waited += clock() - began
        received += len(piece)
        yield piece


def _too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"the body is larger than this address takes: send at most {limit} bytes")


async def discard(request: Request) -> None:
    """Reads on without keeping anything. Asks the server itself: the request's own stream may already be in use."""
    left = DISCARD_BYTES
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while left > 0:
                message = await request.receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def json_body(record: type[R]) -> Callable[..., Coroutine[Any, Any, R]]:
    """A dependency: a worker's JSON body as this record."""

    async def read(request: Request, settings: SettingsDep) -> R:
        return await read_json(request, record, settings.max_body_bytes, most_values=MOST_OF_WORKERS)

    return read


async def read_json(request: Request, record: type[R], limit: int, *, most_values: int = MOST_VALUES) -> R:
    kind = content_type(request)
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise blame_parameter(
            "unsupported_media_type", "Content-Type", "send JSON with Content-Type: application/json", status=415
        )
    raw = b"".join([chunk async for chunk in chunks(request, limit)])
    if len(raw) <= SHORT_BYTES:
        return parse(record, raw)
    return await run_in_threadpool(parse, record, raw, most_values)


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def parse(record: type[R], raw: bytes, most_values: int = MOST_VALUES) -> R:
    """The record in this JSON text, or a problem that names each field to blame and what it should be."""
    parsed = strict_json(raw, most_values)
    try:
        return record.model_validate_json(raw)
    except ValidationError as exc:
        raise _of_record(exc, parsed) from None


def strict_json(raw: bytes, most_values: int = MOST_VALUES) -> Any:
    """What the text says, or a problem for whatever two readers could understand differently, or no database keeps."""
    try:
        parsed = json.loads(raw.decode("utf-8"), object_pairs_hook=_Object, parse_int=_integer)
    except UnicodeDecodeError:
        raise Problem(400, "malformed_json", "the body is not UTF-8: send JSON encoded as UTF-8") from None
    except json.JSONDecodeError as exc:
        where = f"line {exc.lineno}, column {exc.colno}"
        raise Problem(400, "malformed_json", f"the body is not JSON: {exc.msg} at {where}; correct it there") from None
    except RecursionError:
        raise _too_deep("") from None
    faults = list(islice(_faults(parsed, most_values), MOST_ERRORS))
    if faults:
        raise Problem(422, "invalid_body", sentence(faults), errors=faults)
    return parsed


def _integer(digits: str) -> int:
    """Python refuses to read thousands of digits, without a word about where they are."""
    return int(digits) if len(digits) <= LONGEST_INTEGER else LARGEST_INTEGER + 1


class _Object(dict[str, Any]):
    """A JSON object that remembers a name it was given twice."""

    __slots__ = ("twice",)  # a large body makes many

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: str | None = None
        if len(self) < len(pairs):
            self.twice = Counter(name for name, _ in pairs).most_common(1)[0][0]


def _too_deep(at: str) -> Problem:
    return blame_field("invalid_body", at, f"the body is nested too deeply: use at most {DEEPEST} levels")


def _faults(parsed: Any, most_values: int) -> Iterator[FieldError]:
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), parsed)]
    values = 0
    while waiting:
        path, value = waiting.pop()
        if len(path) > DEEPEST:
            raise _too_deep(pointer(*path))
        values += len(value) if isinstance(value, (dict, list)) else 0
        if values > most_values:
            said = f"the body holds too much: use at most {most_values} values"
            raise blame_field("invalid_body", pointer(*path), said)
        if isinstance(value, _Object):
            if value.twice is not None:
                yield FieldError(pointer=pointer(*path, value.twice), message="is given twice: give it once")
            if any(not _storable(name) for name in value):
                yield FieldError(pointer=pointer(*path), message="has a name with a character that is no text")
            else:
                waiting.extend(((*path, name), inner) for name, inner in value.items())
        elif isinstance(value, list):
            waiting.extend(((*path, at), inner) for at, inner in enumerate(value))
        elif isinstance(value, str) and not _storable(value):
            yield FieldError(pointer=pointer(*path), message="has a NUL or half a surrogate pair: remove it")
        elif isinstance(value, float) and not isfinite(value):
            yield FieldError(pointer=pointer(*path), message="must be a finite number")
        elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            yield FieldError(pointer=pointer(*path), message=f"is too large: use at most {LARGEST_INTEGER}")


def _storable(text: str) -> bool:
    return _NO_TEXT.search(text) is None


def _of_record(exc: ValidationError, parsed: Any) -> Problem:
    """One error for each field, though a union complains once for each of its members."""
    messages: dict[str, list[str]] = {}
    for error in exc.errors(include_url=False, include_input=False):
        path = pointer(*_path(error["loc"], parsed, missing=error["type"] == "missing"))
        message = _message(error["type"], error["msg"])
        for below in error.get("ctx", {}).get("fields", ("",)):
            if message not in messages.setdefault(path + below, []):
                messages[path + below].append(message)
    errors = [FieldError(pointer=at, message=", or ".join(said)) for at, said in islice(messages.items(), MOST_ERRORS)]
    return Problem(422, "invalid_body", sentence(errors), errors=errors)


def _path(loc: tuple[str | int, ...], parsed: Any, *, missing: bool) -> list[str | int]:
    """Pydantic's path without the steps that are no part of the body: the names of a union's members and the like."""
    path: list[str | int] = []
    for step in loc:
        within = isinstance(parsed, dict) and step in parsed
        if within or (isinstance(parsed, list) and isinstance(step, int) and step < len(parsed)):
            path.append(step)
            parsed = parsed[step]
    return [*path, loc[-1]] if missing else path


def _message(kind: str, said: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such field: remove it or correct its name"
    if kind == "missing":
        return "this field is required: give it"
    words = said.removeprefix("Value error, ").removeprefix("Input ")
    return words[:1].lower() + words[1:]


def sentence(errors: list[FieldError]) -> str:
    """The first few errors as one line for a terminal; all of them are in `errors`."""
    said = "; ".join(f"{error.pointer or 'the body'}: {error.message}" for error in errors[:3])
    return said if len(errors) <= 3 else f"{said}; and {len(errors) - 3} more"
