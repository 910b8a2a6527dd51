"""The proxy of docker-compose.yml, on ports of this machine: what each of its two doors lets through."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.debian import program
from tests.integration.over_http import LEAST, Service
from tests.ports import free_ports
from tests.waiting import wait_until

CADDYFILE = Path(__file__).parent.parent.parent / "deploy/proxy/Caddyfile"


@dataclass(frozen=True)
class Doors:
    published: httpx.Client
    inner: httpx.Client


@pytest.fixture
def doors(service: Service, tmp_path: Path) -> Iterator[Doors]:
    published, inner = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    text = CADDYFILE.read_text()
    for ours, here in {
        "\n:8000 {": f"\n{published} {{",
        "\n:8001 {": f"\n{inner} {{",
        "name api": "name localhost",
        "port 8000": f"port {urlsplit(service.url).port}",
    }.items():
        assert text.count(ours) == 1
        text = text.replace(ours, here)
    config = tmp_path / "Caddyfile"
    config.write_text(text)
    command = [program("caddy", package="caddy"), "run", "--adapter", "caddyfile", "--config", config]
    with (tmp_path / "caddy.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, "HOME": str(tmp_path)}, stdout=log, stderr=log)
    try:
        with (
            httpx.Client(base_url=published, trust_env=False, timeout=30) as outside,
            httpx.Client(base_url=inner, trust_env=False, timeout=30) as inside,
        ):
            wait_until("the proxy answers", lambda: _answers(outside) and _answers(inside))
            yield Doors(outside, inside)
    finally:
        process.terminate()
        process.wait()


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def test_the_published_door_knows_no_worker_and_the_inner_one_nothing_else(doors: Doors) -> None:
    """401 is the API's own answer: who gets that far has been let through."""
    job = doors.published.post("/jobs", json=LEAST)
    events = doors.published.get(f"/jobs/{job.json()['id']}/events")

    assert (job.status_code, events.status_code) == (202, 200)
    assert job.json()["state"] == "queued"
    for path in ("/metrics", "/attempts/att_1", "/attempts/att_1/heartbeat", "/checks/chk_1", "/checks"):
        assert doors.published.get(path).status_code == 404, path
        assert "x-request-id" not in doors.published.get(path).headers, path
    assert doors.inner.get("/attempts/att_1").status_code == 401
    assert doors.inner.get("/checks/chk_1").status_code == 401
    for path in ("/metrics", "/jobs", "/docs", "/"):
        assert doors.inner.get(path).status_code == 404, path
        assert "x-request-id" not in doors.inner.get(path).headers, path


def test_a_stream_is_passed_on_as_it_comes(doors: Doors, service: Service) -> None:
    job = service.submit()

    with doors.published.stream("GET", f"/jobs/{job['id']}/events", headers={"Accept": "text/event-stream"}) as stream:
        first = next(line for line in stream.iter_lines() if line.startswith("event:"))

    assert first
    assert service.job(job["id"])["state"] == "queued"  # nothing has ended that could have flushed it
