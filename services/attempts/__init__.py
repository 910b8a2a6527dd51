"""One try at a job: claimed for a launcher, worked on under a token, ended by its own word or given up.

The queries live in three files by who asks: the dispatcher (claims), the worker (work), and whoever ends it (endings).
"""

from services.attempts.claims import (
    Claim,
    claim,
    cleared,
    deaf,
    expired,
    history,
    launched,
    leftovers,
    live,
    patience_of,
    reaped,
    request_drain,
    stalled,
    unreaped,
)
from services.attempts.endings import condemn, finish, rescue
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
    "cleared",
    "condemn",
    "deaf",
    "expired",
    "fence",
    "find_log",
    "find_saved",
    "finish",
    "heartbeat",
    "history",
    "launched",
    "leftovers",
    "live",
    "patience_of",
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
