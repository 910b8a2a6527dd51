"""Which bytes of a stored file an HTTP request is about: RFC 9110, sections 13 and 14, for one strong ETag."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

_RANGE = re.compile(r"([0-9]*)-([0-9]*)")
_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')

# More digits than any file has bytes, and far fewer than Python refuses to read.
_LONGEST_NUMBER = 18


@dataclass(frozen=True)
class Span:
    """Bytes from `first` to `last`, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


class Unsatisfiable(Exception):
    """The range asks for nothing that the file has."""


def parse_range(header: str, size: int) -> Span | None:
    """The asked-for span of a file of `size` bytes; None where the whole is the answer.

    A unit that we don't know, and several ranges at once, are answered by the whole, as the standard allows.
    """
    unit, equals, ranges = header.partition("=")
    if not equals or unit.strip().lower() != "bytes" or "," in ranges:
        return None
    match = _RANGE.fullmatch(ranges.strip())
    if match is None or match.group() == "-":
        raise Unsatisfiable
    first, last = (_number(digits) for digits in match.groups())
    if first is None:
        first, last = max(0, size - (last or 0)), size - 1
    elif last is not None and last < first:
        raise Unsatisfiable
    if first >= size:
        raise Unsatisfiable
    return Span(first, size - 1 if last is None else min(last, size - 1))


def _number(digits: str) -> int | None:
    return int(digits.lstrip("0")[: _LONGEST_NUMBER + 1] or "0") if digits else None


def matches(header: str, etag: str) -> bool:
    """Whether If-None-Match names this ETag; weak comparison, as the standard has it there."""
    return header.strip() == "*" or etag in _ENTITY_TAG.findall(header)


def span_of(headers: Mapping[str, str], etag: str, size: int) -> Span | None:
    """The span that Range and If-Range ask for together. An If-Range that is not our ETag asks for the whole."""
    asked = headers.get("range")
    if asked is None or headers.get("if-range", etag).strip() != etag:
        return None
    return parse_range(asked, size)


def repr_digest(sha256: str) -> str:
    """The value of Repr-Digest (RFC 9530) for a hexadecimal sha256."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


_SHA_256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):\s*(?:,|$)")


def read_digest(header: str) -> str | None:
    """The hexadecimal sha256 in a Repr-Digest header; None where it has none."""
    match = _SHA_256.search(header)
    return base64.b64decode(match.group(1)).hex() if match else None
