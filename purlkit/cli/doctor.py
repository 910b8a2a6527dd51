"""`purl doctor`: what is wrong on this machine, and the remedy. Each look is by itself: one fault hides no other."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

MARKS = {"well": " ", "warning": "?", "fault": "!"}
CHECK_SECONDS = 60.0
PYTHON = (3, 11)
# What Ray wants for its objects; less, and it warns and turns to the disk.
SHARED_MEMORY = 256 * 2**20
DISK = 2 * 2**30
RUNNER_MEMORY = 2**30
OPEN_FILES = 1024
# Settings of the client, not of the service.
OTHERS = ("PURL_URL", "PURL_API_KEY", "PURL_PATIENCE")
TOGETHER = ("torch", "torchvision", "ray")  # one set: see requirements.lock


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    state: Literal["well", "warning", "fault"]
    said: str
    remedy: str = ""


def examine(environ: Mapping[str, str] = os.environ, folder: Path = Path()) -> list[Finding]:
    checks: list[Callable[[], Iterator[Finding]]] = [
        python,
        lambda: versions(folder),
        torch_and_gpu,
        machine,
        lambda: settings(environ, folder),
        lambda: service(environ),
    ]
    return [finding for check in checks for finding in check()]


def python() -> Iterator[Finding]:
    said = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == PYTHON:
        yield Finding("Python", "well", said)
    else:
        yield Finding("Python", "warning", f"{said} is not what the versions are pinned for", "use Python 3.11")


def versions(folder: Path) -> Iterator[Finding]:
    """Where there is a lock file, what belongs together must be what it says."""
    lock = folder / "requirements.lock"
    pinned = dict(line.split("==") for line in lock.read_text().split() if "==" in line) if lock.is_file() else {}
    for name in TOGETHER:
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            remedy = "make .venv/.ready" if pinned else "pip install 'purlkit[prune]' (ray is for the service alone)"
            yield Finding(name, "warning", "is not installed: this machine can ask a service, not be one", remedy)
            continue
        if name in pinned and here.split("+")[0] != pinned[name]:
            said = f"{here} is here, {pinned[name]} is pinned"
            yield Finding(
                name, "fault", said, "pip install -r requirements.lock: torch, torchvision and ray are one set"
            )
        else:
            yield Finding(name, "well", here)


def torch_and_gpu() -> Iterator[Finding]:
    """In a process of its own: an import that crashes must not end the examination."""
    code = "import torch, torchvision; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    done = _run([sys.executable, "-c", code])
    if done is None or done.returncode != 0:
        lines = done.stderr.strip().splitlines() if done else ["no answer"]
        if "No module named" not in lines[-1]:  # that it is missing was said above
            said = f"torch or torchvision does not load: {lines[-1]}"
            yield Finding("torch", "fault", said, "install both from one place: pip install -r requirements.lock")
        return
    devices = int(done.stdout.split()[-1])
    has_card = shutil.which("nvidia-smi") is not None and (card := _run(["nvidia-smi", "-L"])) and card.returncode == 0
    if devices:
        yield Finding("GPU", "well", f"{devices} in reach")
    elif has_card:
        remedy = "the driver and torch's CUDA differ: compare nvidia-smi with torch.version.cuda"
        yield Finding("GPU", "fault", "there is a card, but torch can't use it", remedy)
    else:
        yield Finding("GPU", "well", "none; searches run on the CPU")


def machine() -> Iterator[Finding]:
    import resource

    shared = shutil.disk_usage("/dev/shm") if Path("/dev/shm").is_dir() else None
    if shared is None or shared.free < SHARED_MEMORY:
        free = 0 if shared is None else shared.free
        remedy = "give the container --shm-size=2g, or free /dev/shm"
        yield Finding("shared memory", "warning", f"{free >> 20} MB free below /dev/shm, Ray wants more", remedy)
    temporary = Path(tempfile.gettempdir())
    if (free := shutil.disk_usage(temporary).free) < DISK:
        yield Finding("disk", "fault", f"{free >> 20} MB free below {temporary}", "free some, or set TMPDIR elsewhere")
    if (limit := resource.getrlimit(resource.RLIMIT_NOFILE)[0]) < OPEN_FILES:
        yield Finding("open files", "fault", f"{limit} at most, Ray needs more", f"ulimit -n {4 * OPEN_FILES}")
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    state: Literal["well", "warning"] = "well" if memory >= RUNNER_MEMORY else "warning"
    remedy = "" if state == "well" else "a runner takes about 1 GB: ask for fewer with resources.env_runners"
    yield Finding("memory", state, f"{memory >> 20} MB free, {os.cpu_count()} CPUs", remedy)


def settings(environ: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    """What the service here would start with, as the service itself sees it: database, store, folders."""
    if not (folder / "services" / "__main__.py").is_file():
        yield Finding("service", "well", "not in this folder: run this in a checkout to examine its settings too")
        return
    done = _run([sys.executable, "-m", "services", "check"], cwd=folder, env=environ)
    if done is None:
        yield Finding("settings", "fault", f"no answer within {CHECK_SECONDS:g} s", "is the database's host reachable?")
        return
    told = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not told:
        said = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        yield Finding("settings", "fault", said, "see docs/settings.md")
    for line in told:
        finding = json.loads(line)
        if "known" in finding:
            yield from _unknown(environ, [*json.loads(finding["known"]), *OTHERS])
        else:
            yield Finding(**finding)


def _unknown(environ: Mapping[str, str], known: list[str]) -> Iterator[Finding]:
    for name in sorted(environ):
        if name.startswith("PURL_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else "see docs/settings.md for those there are"
            yield Finding(name, "warning", "is no setting and has no effect", remedy)


def service(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Who answers at the address that `purl` would use."""
    from purlkit.client import PurlClient, Unreachable, calls
    from purlkit.errors import PurlError

    url = environ.get("PURL_URL")
    try:
        with PurlClient(url, patience=1.0) as purl:
            url = purl.url
            health = purl.send(calls.health())
    except Unreachable:
        parts = urlsplit(url or "http://127.0.0.1:8000")
        taken = _taken(parts.hostname or "", parts.port or 80)
        said = "something else answers there" if taken else "nobody answers there"
        remedy = "set PURL_PORT to another port, and PURL_URL with it" if taken else "make serve, or set PURL_URL"
        yield Finding("service", "fault" if taken or environ.get("PURL_URL") else "warning", f"{url}: {said}", remedy)
    except (PurlError, ValueError) as problem:
        yield Finding("service", "fault", f"{url}: {str(problem).splitlines()[0]}", "is this a PuRL service?")
    else:
        yield Finding("service", "well", f"{url} answers: {health}")


def as_dicts(findings: list[Finding]) -> list[dict[str, str]]:
    return [asdict(finding) for finding in findings]


def _taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0


def _run(
    command: list[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=CHECK_SECONDS, check=False, cwd=cwd, env=env
        )
    except subprocess.TimeoutExpired:
        return None
