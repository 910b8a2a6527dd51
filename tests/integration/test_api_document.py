"""What the API says of itself is true, and whole."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import TypeAdapter

from api import examples, schemas
from api.errors import ProblemDocument
from api.routes import catalog, health, recipes
from purlkit import results, spec
from purlkit.results import CHECKPOINT, REPORT
from tests.integration.over_http import Service, a_success


@pytest.fixture
def document(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.http.get("/openapi.json").json()
    return found


def contents(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Every JSON body that is taken or answered: where, its kind, and what is said of it."""
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for at, body in bodies.items():
                for kind, content in body.get("content", {}).items():
                    found.append((f"{method} {path} {at}", kind, content))
    return found


def test_every_body_and_every_refusal_has_an_example(document: dict[str, Any]) -> None:
    without = {at for at, kind, content in contents(document) if "json" in kind and "example" not in content}

    assert without == set()


@pytest.mark.parametrize("name", examples.of_records())
def test_every_example_is_valid(name: str) -> None:
    places = (spec, schemas, results, catalog, recipes, health)
    record = next(getattr(place, name) for place in places if hasattr(place, name))

    TypeAdapter(record).validate_json(TypeAdapter(Any).dump_json(examples.of_records()[name]))


def test_the_example_of_a_refusal_has_the_status_that_it_stands_under(document: dict[str, Any]) -> None:
    for at, kind, content in contents(document):
        if kind == "application/problem+json":
            problem = ProblemDocument.model_validate(content["example"])
            assert at.endswith(("default", str(problem.status))), at


def test_functions_of_generated_clients_have_short_names(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]

    assert len(set(names)) == len(names)
    assert {"submit_job", "get_job", "list_jobs", "cancel_job", "get_checkpoint", "upload_weights"} <= set(names)


def test_what_is_answered_is_what_is_documented(service: Service) -> None:
    """Jobs are not made by way of JobView, so that this shows that they are JobViews."""
    service.submit(name="queued", labels={"a": "b"})
    service.claim().beat()
    service.submit()
    service.claim().succeed()
    service.http.post(f"/jobs/{service.submit()['id']}/cancel")
    service.submit()

    jobs = service.http.get("/jobs").json()["data"]

    assert {job["state"] for job in jobs} == {"queued", "running", "succeeded", "cancelled"}
    for job in jobs:
        view = schemas.JobView.model_validate_json(TypeAdapter(Any).dump_json(job))
        assert view.model_dump(mode="json") == job
        assert service.job(job["id"]) == job


def test_the_page_for_people_shows_every_route_and_loads_nothing(service: Service, document: dict[str, Any]) -> None:
    response = service.http.get("/docs")

    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.search(r"<script|src=|<link|https?://", response.text)
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in response.text


def test_head_answers_wherever_get_does(service: Service, document: dict[str, Any]) -> None:
    job = service.submit()
    worker = service.claim()
    worker.succeed()
    sweep = service.http.post("/sweeps", json=examples.SWEEP_BODY).json()
    names = {"job_id": job["id"], "sweep_id": sweep["id"], "name": "pruned.safetensors", "number": "1"}
    paths = [path for path, operations in document["paths"].items() if "get" in operations]
    public = [path.format(**names) for path in paths if not path.startswith(("/attempts", "/checks"))]
    assert len(public) > 10

    for path in [*public, "/docs", "/openapi.json"]:
        got, head = service.http.get(path), service.http.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        if path != "/metrics":  # which tells of the question itself
            assert head.headers.get("content-length") == got.headers.get("content-length"), path
        assert head.headers.get("content-type") == got.headers.get("content-type"), path


def test_head_of_a_stream_says_what_it_would_be(service: Service) -> None:
    path = service.submit()["links"]["events"]

    response = service.http.head(path, headers={"Accept": "text/event-stream"})

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")


def test_the_report_is_a_page_on_which_nothing_runs(service: Service) -> None:
    job = service.submit()
    before = service.http.get(f"/jobs/{job['id']}/report")
    worker = service.claim()
    worker.stage(CHECKPOINT, b"pruned")
    worker.stage(REPORT, b"<!doctype html>", "text/html")
    worker.finish(a_success(b"pruned").model_copy(update={"artifacts": (CHECKPOINT, REPORT)}))

    page = service.http.get(service.job(job["id"])["links"]["report"])

    assert (before.status_code, before.json()["code"], job["links"]["report"]) == (404, "no_result", None)
    assert (page.status_code, page.text) == (200, "<!doctype html>")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "content-disposition" not in page.headers  # to be read, not saved
    directives = page.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "sandbox"} <= set(directives)
    assert not any(directive.startswith("script-src") for directive in directives)


def test_the_layers_of_every_candidate(service: Service) -> None:
    job = service.submit()
    before = service.http.get(f"/jobs/{job['id']}/layers")
    service.claim().succeed()

    done = service.job(job["id"])
    table = service.http.get(done["links"]["layers"]).json()["data"]

    assert (before.status_code, before.json()["code"], job["links"]["layers"]) == (404, "no_result", None)
    assert [(row["method"], row["winner"], row["sparsity"]) for row in table] == [("global", True, 0.9)]
    (layer,) = table[0]["layers"]
    assert (layer["name"], layer["weights"], layer["kept"], layer["sparsity"]) == ("fc", 100, 10, 0.9)
