"""One line for each event, with the time and the process that says it."""

from __future__ import annotations

import logging
import sys


def set_up(process: str) -> None:
    """Called once by each process of the service, before anything else."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s {process} %(levelname)s %(message)s",
    )
    # Names each request at INFO; what matters of them is said by those who make them.
    logging.getLogger("httpx").setLevel(logging.WARNING)
