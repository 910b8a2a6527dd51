"""One try at a job: claimed for a launcher, worked on under a token, ended by its own word or given up.

The queries live in three files by who asks: the dispatcher (claims), the worker (work), and whoever ends it (endings).
"""

from services.attempts.claims import (
    Claim,
    claim,
    deaf,
    expired,
    history,
    launched,
    live,
    reaped,
    request_drain,
    stalled,
    unreaped,
)
from services.attempts.endings import finish, rescue
from services.attempts.log import append_log, find_log, read_log
from services.attempts.work import (
    authenticate,
    brief,
    fence,
    find_saved,
    heartbeat,
    record_events,
    save_work,
    stage_artifact,
)

__all__ = [
    "Claim",
    "append_log",
    "authenticate",
    "brief",
    "claim",
    "deaf",
    "expired",
    "fence",
    "find_log",
    "find_saved",
    "finish",
    "heartbeat",
    "history",
    "launched",
    "live",
    "read_log",
    "reaped",
    "record_events",
    "request_drain",
    "rescue",
    "save_work",
    "stage_artifact",
    "stalled",
    "unreaped",
]
