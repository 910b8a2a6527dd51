"""Runs the services of docker-compose.yml as plain processes: its commands with its environment, and nothing else.

What a container has for itself, its name, its ports, its folders, is put in its place: `names` for all, `own` for one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import compose
from tests.debian import program
from tests.waiting import DEADLINE_SECONDS

END_SECONDS = 300.0  # of what starts, does one thing and ends: a start alone may take half a minute
VENV = Path(sys.executable).parent
HEALTHY = compose.ROOT / "deploy/healthy.py"
# What images that are not ours start when the file says no command, or nothing but options.
OF_THE_IMAGE = {
    "proxy": ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"],
    "prometheus": ["prometheus"],
}


@dataclass
class Machine:
    folder: Path
    names: dict[str, str]  # what stands for the names of containers, and for paths in them
    cleanup: ExitStack
    own: dict[str, dict[str, str]] = field(default_factory=dict)  # the same in one service alone: its ports, above all
    logs: dict[str, Path] = field(default_factory=dict)

    def start(self, service: str, *, nth: int = 1, more: Sequence[str] = (), **instead: str) -> subprocess.Popen[bytes]:
        """`more` and `instead`: what its container has for itself and no word of the file says."""
        self.logs[service] = self.folder / f"{service}.log"
        with self.logs[service].open("ab") as log:
            process = subprocess.Popen(
                [*self._command(service), *more],
                env={**self._environ(service, nth), **instead},
                cwd=compose.ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._is_ours(service) else log,
                stderr=log,
                start_new_session=True,
            )
        if process.stdout is not None:
            self.cleanup.callback(process.stdout.close)
        self.cleanup.callback(process.wait, DEADLINE_SECONDS)
        self.cleanup.callback(process.terminate)
        return process

    def ends_well(self, service: str) -> str:
        """What it printed."""
        process = self.start(service)
        printed, _ = process.communicate(timeout=END_SECONDS)
        assert process.returncode == 0, self.log(service)
        return printed.decode().strip()

    def is_healthy(self, service: str) -> bool:
        """By the check of the file itself, or of its image."""
        program, *words = (self.here(service, word) for word in compose.healthcheck(service))
        # Images that are not ours ask with BusyBox's wget, which need not be here: ours asks the same address.
        words = words if program == "python" else [str(HEALTHY), words[-1]]
        return subprocess.run([sys.executable, *words], cwd=compose.ROOT, capture_output=True).returncode == 0

    def log(self, service: str) -> str:
        return self.logs[service].read_text(errors="replace")

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text()

    def _command(self, service: str) -> list[str]:
        said = compose.services()[service].get("command", [])
        program_, *words = [*OF_THE_IMAGE.get(service, []), *said]
        return [_found(program_), *(self.here(service, word) for word in words)]

    def _environ(self, service: str, nth: int) -> dict[str, str]:
        said = compose.services()[service]
        image = compose.image_environ(said["build"]["dockerfile"]) if "build" in said else {}
        environ: dict[str, Any] = {**image, **said.get("environment", {})}
        environ = {name: self.here(service, str(value)) for name, value in environ.items()}
        # A container's account has a home, and the images have their programs on the path.
        environ |= {"HOME": str(self.folder), "PATH": f"{VENV}:{os.environ['PATH']}"}
        if self._is_ours(service):
            environ |= {"PYTHONPATH": str(compose.ROOT), "PURL_DATA_DIR": str(self.folder / f"{service}-{nth}")}
            environ |= {"PURL_HOST": "127.0.0.1", "PURL_POLL_SECONDS": "0.25", "PURL_DRAIN_SECONDS": "1"}
        return environ

    def _is_ours(self, service: str) -> bool:
        built: str = compose.services()[service].get("build", {}).get("dockerfile", "")
        return built == "deploy/service.Dockerfile"

    def here(self, service: str, text: str) -> str:
        """All at once: what one name has become may have the letters of another."""
        names = {**self.names, **self.own.get(service, {})}
        longest_first = sorted(names, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, longest_first)), lambda found: names[found[0]], text)


def _found(name: str) -> str:
    if name == "python":
        return sys.executable
    return str(VENV / name if name == "ray" else program(name, package=name))
