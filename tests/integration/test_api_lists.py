"""The list of jobs by everything that it can be searched by."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.integration.over_http import Service, assert_problem


def ids(service: Service, **params: Any) -> list[str]:
    response = service.http.get("/jobs", params=params)
    assert response.status_code == 200, response.text
    return [job["id"] for job in response.json()["data"]]


def test_by_labels_all_of_which_must_hold(service: Service) -> None:
    both = service.submit(labels={"team": "vision", "run": "a:b"})["id"]
    one = service.submit(labels={"team": "vision"})["id"]
    service.submit(labels={"team": "speech", "run": "a:b"})

    assert ids(service, label="team:vision") == [one, both]
    assert ids(service, label=["team:vision", "run:a:b"]) == [both], "only the first colon separates"
    assert ids(service, label="team:") == []
    assert ids(service, label="nobody:has it") == []


def test_by_model(service: Service) -> None:
    other = service.submit(model={"name": "mlp"})["id"]
    service.submit()

    assert ids(service, model="mlp") == [other]
    assert ids(service, model="no-such-net") == []


def test_by_the_moment_of_its_own_creation(service: Service) -> None:
    """`created_at` as it was answered, handed back: that job is within it and not before it."""
    job = service.submit()
    created_at = job["created_at"]
    later = (datetime.fromisoformat(created_at) + timedelta(milliseconds=1)).isoformat()

    assert ids(service, created_after=created_at) == [job["id"]]
    assert ids(service, created_before=created_at) == []
    assert ids(service, created_before=later) == [job["id"]]
    assert ids(service, created_after=later) == []


def test_filters_hold_together_over_pages(service: Service) -> None:
    wanted = [service.submit(model={"name": "mlp"}, labels={"n": "1"})["id"] for _ in range(5)]
    service.submit(model={"name": "mlp"})
    service.submit(labels={"n": "1"})

    seen: list[str] = []
    page: dict[str, Any] = {"next": None, "has_more": True}
    while page["has_more"]:
        params = {"model": "mlp", "label": "n:1", "state": "queued", "limit": 2}
        after = {"after": page["next"]} if page["next"] else {}
        page = service.http.get("/jobs", params={**params, **after}).json()
        seen += [job["id"] for job in page["data"]]

    assert seen == wanted[::-1]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("label", "no colon"),
        ("label", "k" * 64 + ":v"),
        ("label", "k:" + "v" * 400),
        ("label", ["k:1", "k:2"]),
        ("label", [f"k{number}:v" for number in range(9)]),
        ("model", "m" * 101),
        ("created_after", "yesterday"),
        ("created_after", "2026-11-21T08:00:00"),
        ("created_before", "9" * 400),
    ],
)
def test_a_filter_that_makes_no_sense(service: Service, parameter: str, value: object) -> None:
    response = service.http.get("/jobs", params={parameter: value})  # type: ignore[dict-item]

    problem = assert_problem(response, 422, "invalid_parameter")
    assert problem["errors"][0]["parameter"].startswith(parameter)
