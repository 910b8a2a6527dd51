"""Debian's Prometheus for tests: the one that is installed, or its package unpacked into a folder, without root."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.waiting import wait_until

PROGRAMS = Path(tempfile.gettempdir()) / "purl-tests-prometheus"


def program(name: str) -> Path:
    """`prometheus` or `promtool`; a test is left out where there is neither it nor a Debian to get it from."""
    installed = shutil.which(name)
    if installed:
        return Path(installed)
    unpacked = PROGRAMS / "usr/bin" / name
    if not unpacked.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            pytest.skip(f"{name} is not installed, and this is no Debian")
        _unpack()
    return unpacked


def _unpack() -> None:
    with tempfile.TemporaryDirectory(dir=PROGRAMS.parent) as folder:
        got = subprocess.run(["apt-get", "download", "prometheus"], cwd=folder, capture_output=True, text=True)
        packages = list(Path(folder).glob("prometheus_*.deb"))
        if got.returncode != 0 or not packages:
            pytest.skip(f"apt-get download prometheus: {got.stderr.strip()[-200:]}")
        whole = Path(folder) / "whole"
        subprocess.run(["dpkg-deb", "--extract", packages[0], whole], check=True)
        if not PROGRAMS.exists():
            whole.rename(PROGRAMS)


@contextmanager
def prometheus(folder: Path, config: Path) -> Iterator[httpx.Client]:
    """A server with this configuration, by its HTTP API; its data lies in the folder."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        str(program("prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}", trust_env=False) as http:
            wait_until("Prometheus is ready", lambda: _is_ready(http))
            yield http
    finally:
        process.terminate()
        process.wait()


def ask(http: httpx.Client, query: str) -> list[dict[str, Any]]:
    """What it knows by now, each as labels and value."""
    answer = http.get("/api/v1/query", params={"query": query}).raise_for_status().json()
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def _is_ready(http: httpx.Client) -> bool:
    try:
        return http.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False
