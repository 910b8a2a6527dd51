"""Each test has a short form, for `make test`; `make chaos` runs a share of the long one: CHAOS=1 is all of it."""

from __future__ import annotations

import os


def times(long: int, *, short: int) -> int:
    share = os.environ.get("CHAOS")
    return short if share is None else max(short, round(long * float(share)))


def is_long() -> bool:
    return "CHAOS" in os.environ


def tell(what: str) -> None:
    """A line of figures; `make chaos` shows it."""
    print(f"\n  {what}", flush=True)
