"""Room on the service's disks: work is refused while there is still enough left to bring what runs to its end."""

from __future__ import annotations

import shutil
from pathlib import Path

from services.artifacts.store import disk_errors
from services.errors import StoreFull
from services.settings import Settings


def check_room(settings: Settings) -> None:
    """StoreFull where less than PURL_MIN_FREE_BYTES are free. Not asked of a worker's last word or its events."""
    folders = {settings.data_dir}
    if isinstance(settings.artifacts, Path):
        folders.add(settings.artifacts)
    with disk_errors():
        if any(_free(folder) < settings.min_free_bytes for folder in folders):
            raise StoreFull


def _free(folder: Path) -> int:
    """Of one that nobody has written to yet: where it would be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
