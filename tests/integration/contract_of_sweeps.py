"""The rows of the contract about many jobs that one request makes. `test_api_contract` plays them."""

from __future__ import annotations

from tests.integration.contract import Seen, row
from tests.integration.over_http import LEAST, Service

GRID = {"base": LEAST, "grid": {"seed": [0, 1]}}


def swept(service: Service) -> str:
    return str(service.http.post("/sweeps", json=GRID).json()["links"]["self"])


@row("POST /sweeps")
def _(service: Service) -> Seen:
    answer = service.http.post("/sweeps", json=GRID)
    made = answer.json()
    return answer, (made["jobs"], answer.headers["location"]), ({"queued": 2}, made["links"]["self"])


@row("GET /sweeps")
def _(service: Service) -> Seen:
    path = swept(service)
    answer = service.http.get("/sweeps")
    return answer, [one["links"]["self"] for one in answer.json()["data"]], [path]


@row("GET /sweeps/{sweep_id}")
def _(service: Service) -> Seen:
    answer = service.http.get(swept(service))
    return answer, [one["settings"] for one in answer.json()["table"]], [{"seed": 0}, {"seed": 1}]


@row("POST /sweeps/{sweep_id}/cancel")
def _(service: Service) -> Seen:
    answer = service.http.post(f"{swept(service)}/cancel")
    return answer, answer.json()["jobs"], {"cancelled": 2}


@row("POST /sweeps/{sweep_id}/pause")
def _(service: Service) -> Seen:
    answer = service.http.post(f"{swept(service)}/pause")
    return answer, answer.json()["jobs"], {"paused": 2}


@row("POST /sweeps/{sweep_id}/resume")
def _(service: Service) -> Seen:
    path = swept(service)
    service.http.post(f"{path}/pause")
    answer = service.http.post(f"{path}/resume")
    return answer, answer.json()["jobs"], {"queued": 2}
