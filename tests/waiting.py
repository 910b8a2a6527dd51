"""Wait for a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

# What is waited for takes milliseconds to seconds; this only has to outlast a machine that is busy with other things.
DEADLINE_SECONDS = 60.0
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.2


def wait_until(
    what: str,
    condition: Callable[[], Value],
    *,
    seconds: float = DEADLINE_SECONDS,
    longest_pause: float = LONGEST_PAUSE_SECONDS,
) -> Value:
    """The condition's value, soon after it is true.

    The longer it has taken, the longer it may take to be noticed: to ask fifty times a second through a whole job takes
    a quarter of the CPU that the job needs.
    """
    began = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - began
        assert waited < seconds, f"waited {seconds:g} s in vain until {what}"
        time.sleep(min(SHORTEST_PAUSE_SECONDS + waited / 50, longest_pause))
    return value
