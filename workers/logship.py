"""What this process says, sent while it says it, so that a reader need not wait for its end."""

from __future__ import annotations

import logging
import os
import stat
import threading
from pathlib import Path

from workers.calls import Refused, Superseded
from workers.link import Link

log = logging.getLogger("purl.logship")

OWN_OUTPUT = Path("/proc/self/fd/1")
EVERY_SECONDS = 1.0
PIECE_BYTES = 128 * 1024
# The service keeps no more of a log than this.
KEPT_BYTES = 8 * 2**20


def own_output(scratch: Path, log_format: str) -> Path:
    """The file that the launcher sends all output to, Ray's included; by hand on a terminal, a file of our own."""
    if stat.S_ISREG(os.fstat(1).st_mode):
        return OWN_OUTPUT
    path = scratch / "said.log"
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(log_format))
    logging.getLogger().addHandler(handler)
    return path


class LogShipper:
    """A thread that follows the file. A log that can't be shipped is no reason for an attempt to end."""

    def __init__(self, link: Link, source: Path) -> None:
        self._link = link
        self._source = source
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Until all that was said has been sent."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        sent = 0
        try:
            with self._source.open("rb", buffering=0) as file:
                while True:
                    last = self._stopping.wait(EVERY_SECONDS)
                    while piece := file.read(PIECE_BYTES):
                        self._link.append_log(sent, piece)
                        sent += len(piece)
                    if last:
                        return
        except Superseded:
            return
        except (Refused, OSError) as error:
            log.warning("the log can be read once the attempt has ended, and no longer before: %s", error)


def keep_tail(source: Path, path: Path) -> None:
    """The log as it is kept: whole, or the end of a long one from the beginning of a line."""
    with source.open("rb") as file:
        if file.seek(0, os.SEEK_END) > KEPT_BYTES:
            file.seek(-KEPT_BYTES, os.SEEK_END)
            file.readline()
        else:
            file.seek(0)
        path.write_bytes(file.read(KEPT_BYTES))
