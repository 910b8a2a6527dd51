"""A real Prometheus for tests, and what it knows."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.debian import program
from tests.ports import free_ports
from tests.waiting import DEADLINE_SECONDS, wait_until


@contextmanager
def prometheus(folder: Path, config: Path) -> Iterator[httpx.Client]:
    """A server with this configuration, by its HTTP API; its data lies in the folder."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [
        str(program("prometheus", package="prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=DEADLINE_SECONDS, trust_env=False) as http:
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
