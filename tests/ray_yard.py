"""A launcher of Ray Jobs with a folder for logs, and the few sentences that its tests begin with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.launch import Handle, RayJobsLauncher


@dataclass
class Yard:
    launcher: RayJobsLauncher
    folder: Path
    name: str

    def launch(
        self, program: str, *, suffix: str = "a1", record: Callable[[Handle], object] = lambda _: None
    ) -> Handle:
        return self.launcher.launch(
            {"CODE": program, "PURL_URL": "http://service", "PURL_DATASETS_DIR": "/data/of/the/service"},
            module="tests.programs.run_code",
            name=f"{self.name}-{suffix}",
            log_path=self.folder / "logs" / "attempt.log",
            record=record,
        )

    def end(self, handle: Handle) -> str:
        """What it said, as the dispatcher would keep it."""
        self.launcher.end(handle)
        return Path(handle["log"]).read_text()
