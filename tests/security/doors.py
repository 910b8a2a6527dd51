"""A service with keys, and callers with each kind of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services import keys
from tests.integration.over_http import LEAST, Service, serving


@dataclass(frozen=True)
class Someone:
    """A caller with a key of one tenant."""

    http: httpx.Client
    key: str
    tenant: str

    @property
    def prefix(self) -> str:
        return keys.prefix_of(self.key)

    def submit(self, **changes: Any) -> str:
        answer = self.http.post("/jobs", json={**LEAST, **changes})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def upload(self, data: bytes) -> str:
        answer = self.http.post("/weights", content=data, headers={"Content-Type": "application/octet-stream"})
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()["sha256"])


class Doors:
    def __init__(self, service: Service) -> None:
        self.service = service
        self._clients: list[httpx.Client] = []

    def someone(self, tenant: str, *scopes: str, days: float | None = None) -> Someone:
        with self.service.db.write() as session:
            made = scopes or ("read", "submit")
            key, _ = keys.create(session, name="a test", tenant=tenant, scopes=made, days=days)
        return Someone(http=self.client(Authorization=f"Bearer {key}"), key=key, tenant=tenant)

    def client(self, **headers: str) -> httpx.Client:
        client = httpx.Client(base_url=self.service.url, headers=headers, timeout=30, trust_env=False, verify=False)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@contextmanager
def guarded(folder: Path, **environ: str) -> Iterator[Doors]:
    """Its first key is made before anybody asks."""
    with serving(folder, PURL_MAX_RUNNING="10", **environ) as service:
        service.empty()
        doors = Doors(service)
        doors.someone("the-house", "read", "submit", "admin")
        try:
            yield doors
        finally:
            doors.close()


def a_weights_file(*, values: int = 4, fill: int = 0) -> bytes:
    """One tensor of float32, whose bytes are all the same."""
    header = {"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes([fill]) * 4 * values
