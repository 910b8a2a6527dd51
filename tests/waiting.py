"""Wait for a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

# What is waited for takes milliseconds to seconds; this only has to outlast a machine that is busy with other things.
DEADLINE_SECONDS = 60.0


def wait_until(what: str, condition: Callable[[], Value], *, seconds: float = DEADLINE_SECONDS) -> Value:
    """The condition's value, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain until {what}"
        time.sleep(0.02)
    return value
