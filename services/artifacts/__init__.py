"""Files: bytes in a store under their sha256, and the rows that say which of them belong to a job.

A row is written only after its bytes are safe in the store, so what a row names always exists.
"""

import os
from typing import Any

from services import secret_files
from services.artifacts.blobs import announce, confirm, keep, remove_unnamed
from services.artifacts.local import LocalStore
from services.artifacts.rows import find, list_published, publish, replace_log, stage, staged
from services.artifacts.s3 import S3Store
from services.artifacts.store import Blob, Store, Writer
from services.settings import S3Location, Settings

__all__ = [
    "Blob",
    "LocalStore",
    "S3Store",
    "Store",
    "Writer",
    "announce",
    "confirm",
    "find",
    "keep",
    "list_published",
    "open_store",
    "publish",
    "remove_unnamed",
    "replace_log",
    "stage",
    "staged",
]


def open_store(settings: Settings) -> Store:
    """The store that PURL_ARTIFACTS names."""
    if isinstance(settings.artifacts, S3Location):
        keys: dict[str, Any] = {**secret_files.s3_keys(os.environ)}
        return S3Store(settings.artifacts, spool=settings.data_dir / "spool", **keys)
    return LocalStore(settings.artifacts)
