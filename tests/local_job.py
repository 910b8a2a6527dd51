"""A job in this process: an attempt whose service is a dict. What it saved can be given to the next attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from purlkit.results import AttemptBrief, Phase, Progress, SavedWork
from purlkit.spec import JobSpec
from workers.attempt import Attempt


class LocalLink:
    """As much of a worker's link as the work calls."""

    def __init__(self, saved: Mapping[str, bytes]) -> None:
        self.before = dict(saved)
        self.saved = dict(saved)
        self.newly_saved: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.artifacts: dict[str, bytes] = {}
        self.counter = 0
        self.on_save: Callable[[str], None] = lambda _: None
        self.interrupted: Exception | None = None

    def check(self) -> None:
        if self.interrupted is not None:
            raise self.interrupted

    def tick(self) -> None:
        self.counter += 1

    def moved(self, counter: int) -> None:
        self.counter = max(self.counter, counter)

    def enter(self, phase: Phase) -> None:
        self.event("phase", {"phase": phase.value})

    def progress(self, progress: Progress) -> None: ...

    def event(self, type: str, data: dict[str, Any]) -> None:
        self.events.append((type, data))

    def save(self, name: str, content: bytes) -> None:
        self.saved[name] = content
        self.newly_saved.append(name)
        self.on_save(name)

    def fetch(self, href: str) -> bytes:
        return self.before[href]

    def put_artifact(self, name: str, path: Path, media_type: str) -> None:
        assert media_type
        self.artifacts[name] = path.read_bytes()

    def flush(self) -> None: ...


def local_job(spec: JobSpec, folder: Path, saved: Mapping[str, bytes]) -> tuple[Attempt, LocalLink]:
    link: Any = LocalLink(saved)
    work = {name: SavedWork(sha256="0" * 64, bytes=len(content), href=name) for name, content in saved.items()}
    brief = AttemptBrief(
        id="att_1",
        job_id="job_1",
        number=1,
        spec=spec,
        saved=work,
        weights_href=None,
        lease_seconds=60,
        heartbeat_seconds=10,
    )
    folder.mkdir(parents=True, exist_ok=True)
    return Attempt(brief=brief, link=link, datasets_dir=str(folder), scratch=folder, ray_address=""), link
