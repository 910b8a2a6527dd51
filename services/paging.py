"""Lists in pages. A cursor names the last row of a page, so rows that are added meanwhile move nothing."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.errors import InvalidCursor

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    items: list[T]
    has_more: bool
    next: str | None  # the cursor of what follows


def cut(rows: list[T], limit: int) -> tuple[list[T], bool]:
    """The page out of one row more than it may hold, and whether that row was there."""
    return rows[:limit], len(rows) > limit


def encode(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """Raises InvalidCursor for what `encode` can't have made."""
    try:
        position = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise InvalidCursor from None
    if encode(position) != cursor:
        raise InvalidCursor
    return position
