"""Room on the service's disks: work is refused while there is still enough left to bring what runs to its end."""

from __future__ import annotations

import shutil
from pathlib import Path

from services.errors import StoreFull
from services.settings import Settings


def check_room(settings: Settings) -> None:
    """StoreFull where less than PURL_MIN_FREE_BYTES are free. Not asked of a worker's last word or its events."""
    folders = {settings.data_dir}
    if isinstance(settings.artifacts, Path):
        folders.add(settings.artifacts)
    if any(shutil.disk_usage(folder).free < settings.min_free_bytes for folder in folders):
        raise StoreFull
