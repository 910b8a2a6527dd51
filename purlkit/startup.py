"""How a process of ours starts and ends without looking for garbage.

torch, Ray and RLlib make half a million objects as they are imported, all of which stay. Python looks for garbage among
them again and again while they are made, and three times more when it ends: of the five CPU seconds that an attempt's
driver took to start and end, two went there.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn


@contextmanager
def loading() -> Iterator[None]:
    """Around imports. What is there at the end is there for good: no later look for garbage goes over it again.

    Where all was loaded before, that would only keep the garbage of what has been done since.
    Who ends by itself takes it down after all, for triton complains at length of what is still there then.
    """
    was_on, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
            atexit.unregister(gc.unfreeze)
            atexit.register(gc.unfreeze)
        if was_on:
            gc.enable()


def leave(status: int) -> NoReturn:
    """Ends the process as it is. Only for one whose files, threads and children are done with."""
    for said in (sys.stdout, sys.stderr):
        # Whoever was to read it has gone, or it was closed before; Python has None where it was so from the start.
        with suppress(OSError, ValueError, AttributeError):
            said.flush()
    os._exit(status)
