"""Files: bytes in a store under their sha256, and the rows that say which of them belong to a job.

A row is written only after its bytes are safe in the store, so what a row names always exists.
"""

from services.artifacts.local import LocalStore
from services.artifacts.rows import find, list_published, publish, replace_log, stage, staged
from services.artifacts.store import Blob, Store, Writer

__all__ = [
    "Blob",
    "LocalStore",
    "Store",
    "Writer",
    "find",
    "list_published",
    "publish",
    "replace_log",
    "stage",
    "staged",
]
