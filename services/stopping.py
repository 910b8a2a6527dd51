"""How a process is told to stop: by signal, or by the death of its parent."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping
from types import FrameType

PARENT_FD = "PURL_PARENT_FD"


class Stop:
    """Asked once, a process stops in order; asked twice, in a hurry. Waiting ends as soon as somebody asks."""

    def __init__(self, parent_fd: int | None = None) -> None:
        self._times = 0
        self._parent_fd = parent_fd
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)

    @classmethod
    def of_this_process(cls, environ: Mapping[str, str] = os.environ) -> Stop:
        """Asked by SIGTERM and SIGINT, and when the other end of the parent's pipe closes."""
        parent = environ.get(PARENT_FD)
        stop = cls(int(parent) if parent else None)

        def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            stop.ask()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask)
        return stop

    @property
    def asked(self) -> bool:
        return self._times > 0

    @property
    def hurried(self) -> bool:
        return self._times > 1

    def ask(self) -> None:
        self._times += 1
        os.write(self._wake, b"!")

    def wait(self, seconds: float) -> None:
        """Until the time is up or something was asked, whichever comes first."""
        sources = [self._woken] if self._parent_fd is None else [self._woken, self._parent_fd]
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._parent_fd in ready and not os.read(self._parent_fd, 4096):
            # Closed for good: it would be ready again at every further look.
            self._parent_fd = None
            self._times += 1

    def close(self) -> None:
        os.close(self._woken)
        os.close(self._wake)
