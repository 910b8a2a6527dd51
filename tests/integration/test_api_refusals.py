"""Bodies that are refused, how, and that nothing is left of them."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.over_http import LEAST, Service, assert_problem

MIB = 2**20


def post(service: Service, body: bytes | str) -> httpx.Response:
    return service.http.post("/jobs", content=body, headers={"Content-Type": "application/json"})


def with_field(pointer: str, value: str) -> str:
    """The least body with one more or one other field, whose value is given as JSON text."""
    body = json.loads(json.dumps(LEAST))
    *path, last = pointer.strip("/").split("/")
    inner = body
    for step in path:
        inner = inner.setdefault(step, {})
    inner[last] = "@"
    return json.dumps(body).replace('"@"', value)


def assert_no_job(service: Service) -> None:
    assert service.http.get("/jobs").json()["data"] == []


FIELDS = {
    "unknown model": ("/model/name", '"resnet-9000"', "/model/name", "unknown_name"),
    "unknown data set": ("/dataset/name", '"everything"', "/dataset/name", "unknown_name"),
    "unknown argument": ("/model/kwargs/depth", "3", "/model/kwargs/depth", "invalid_spec"),
    "argument out of range": ("/model/kwargs/width", "0", "/model/kwargs/width", "invalid_spec"),
    "argument of a wrong type": ("/model/kwargs/width", "{}", "/model/kwargs/width", "invalid_body"),
    "a row in a row": ("/model/kwargs/width", "[[1]]", "/model/kwargs/width", "invalid_body"),
    "a row of too many": ("/model/kwargs/width", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "/model/kwargs/width", "invalid_body"),
    "a row where a number belongs": ("/model/kwargs/width", "[1]", "/model/kwargs/width", "invalid_spec"),
    "weights that were never uploaded": (
        "/model/weights/sha256",
        f'"{"0" * 64}"',
        "/model/weights/sha256",
        "missing_weights",
    ),
    "weights by a sha256 that is none": ("/model/weights/sha256", '"zz"', "/model/weights/sha256", "invalid_body"),
    "training of no epochs": ("/model/weights/train/epochs", "0", "/model/weights/train/epochs", "invalid_body"),
    "sparsity of nothing": ("/targets/sparsity", "0", "/targets/sparsity", "invalid_body"),
    "sparsity of all": ("/targets/sparsity", "1", "/targets/sparsity", "invalid_body"),
    "negative sparsity": ("/targets/sparsity", "-0.5", "/targets/sparsity", "invalid_body"),
    "sparsity as text": ("/targets/sparsity", '"0.9"', "/targets/sparsity", "invalid_body"),
    "sparsity as truth": ("/targets/sparsity", "true", "/targets/sparsity", "invalid_body"),
    "sparsity of NaN": ("/targets/sparsity", "NaN", "/targets/sparsity", "invalid_body"),
    "infinite sparsity": ("/targets/sparsity", "Infinity", "/targets/sparsity", "invalid_body"),
    "sparsity beyond a double": ("/targets/sparsity", "1e400", "/targets/sparsity", "invalid_body"),
    "NaN among the arguments": ("/model/kwargs/width", "NaN", "/model/kwargs/width", "invalid_body"),
    "NaN in a list": ("/search/alphas", "[0, -Infinity]", "/search/alphas/1", "invalid_body"),
    "a list's member of a wrong type": ("/search/alphas", '[0, "x"]', "/search/alphas/1", "invalid_body"),
    "alphas that fall": ("/search/alphas", "[1, 0.5]", "/search/alphas", "invalid_body"),
    "stages that end elsewhere": ("/stages", "[0.3, 0.5]", "/stages", "invalid_body"),
    "stages that fall": ("/stages", "[0.95, 0.9]", "/stages", "invalid_body"),
    "a state that is none": ("/search/state", '"all"', "/search/state", "invalid_body"),
    "a share of all of a layer": (
        "/search",
        '{"criterion": "magnitude_target", "alphas": [0, 1]}',
        "/search/alphas",
        "invalid_body",
    ),
    "an early end without accuracies": (
        "/search",
        '{"dense": false, "accuracy_floor": 0.1}',
        "/search/accuracy_floor",
        "invalid_body",
    ),
    "unknown field": ("/sparsity", "0.9", "/sparsity", "invalid_body"),
    "unknown field within": ("/search/agent/colour", '"red"', "/search/agent/colour", "invalid_body"),
    "unknown method": ("/baselines", '["magic"]', "/baselines/0", "invalid_body"),
    "unknown search": ("/search/algorithm", '"magic"', "/search/algorithm", "invalid_body"),
    "an integer beyond 64 bits": ("/seed", "9" * 30, "/seed", "invalid_body"),
    "an integer of a thousand digits": ("/model/kwargs/width", "9" * 1000, "/model/kwargs/width", "invalid_body"),
    "an integer of 5,000 digits": ("/seed", "9" * 5000, "/seed", "invalid_body"),
    "a negative integer of 5,000 digits": ("/search/episodes", "-" + "9" * 5000, "/search/episodes", "invalid_body"),
    "a fraction of an episode": ("/search/episodes", "1.5", "/search/episodes", "invalid_body"),
    "a field given twice": ("/seed", '1, "seed": 1', "/seed", "invalid_body"),
    "a NUL in a name": ("/name", r'"a\u0000b"', "/name", "invalid_body"),
    "half a surrogate pair": ("/name", r'"\ud800"', "/name", "invalid_body"),
    "a name with an escape in it": ("/labels", '{"a/b~c": 3}', "/labels/a~1b~0c", "invalid_body"),
    "a name that is too long": ("/name", '"' + "n" * 201 + '"', "/name", "invalid_body"),
    "null for a number": ("/seed", "null", "/seed", "invalid_body"),
    "lists in lists": ("/labels/a", "[" * 100 + "]" * 100, "/labels/a" + "/0" * 31, "invalid_body"),
}


@pytest.mark.parametrize(("field", "value", "at", "code"), FIELDS.values(), ids=FIELDS)
def test_a_bad_field_is_named_with_its_remedy(service: Service, field: str, value: str, at: str, code: str) -> None:
    problem = assert_problem(post(service, with_field(field, value)), 422, code)

    assert at in [error["pointer"] for error in problem["errors"]]
    assert all(error["message"] for error in problem["errors"])
    assert_no_job(service)


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ("{}", {"/model", "/targets"}),
        ('{"model": {}, "targets": {}}', {"/model/name", "/targets/sparsity", "/targets/flops"}),
        ("[]", {""}),
        ('"digits-resnet"', {""}),
        ("null", {""}),
        ('{"model": "digits-resnet", "targets": 0.9}', {"/model", "/targets"}),
        # Fields that contradict each other are all named.
        (
            '{"model": {"name": "mlp"}, "targets": {"sparsity": 0.5}, "resources": {"env_runners": 9}}',
            {"/resources/env_runners", "/search/lookahead"},
        ),
        (
            '{"model": {"name": "mlp"}, "targets": {"sparsity": 0.5, "accuracy": 0.9, "max_drop": 0.1}}',
            {"/targets/accuracy", "/targets/max_drop"},
        ),
        (
            '{"model": {"name": "mlp"}, "targets": {"sparsity": 0.5}, "baselines": ["erk"], "minimum_threshold": 0.1}',
            {"/minimum_threshold", "/baselines"},
        ),
        ('{"model": {"name": "mlp"}, "targets": {"sparsity": 0.5}, "baselines": ["erk", "erk"]}', {"/baselines"}),
    ],
)
def test_every_fault_of_the_body_is_told_at_once(service: Service, body: str, at: set[str]) -> None:
    problem = assert_problem(post(service, body), 422, "invalid_body")

    assert {error["pointer"] for error in problem["errors"]} == at
    assert_no_job(service)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": ',
        b'{"a": 1} and more',
        b"model=digits-resnet",
        b"\xff\xfe{}",
        b'{"name": "\xff"}',
        b"'{}'",
    ],
)
def test_what_is_no_json(service: Service, body: bytes) -> None:
    assert_problem(post(service, body), 400, "malformed_json")
    assert_no_job(service)


@pytest.mark.parametrize(
    "body",
    [
        "[" * 400_000,
        "[" * 200_000 + "]" * 200_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        with_field("/seed", "9" * 100_000),
        with_field("/targets/sparsity", "0." + "9" * 100_000),
        "{" + ",".join(f'"field {number}": NaN' for number in range(30_000)) + "}",
        "{" + ",".join(f'"field {number}": 1' for number in range(30_000)) + "}",
        "{" + ",".join('"same": 1' for _ in range(60_000)) + "}",
        with_field("/" + "k" * 500_000, "1"),
    ],
    ids=["open", "lists", "objects", "integer", "fraction", "faults", "fields", "same", "long name"],
)
def test_a_body_that_is_made_to_hurt(service: Service, body: str) -> None:
    response = post(service, body)

    assert response.status_code in (400, 422), response.text[:1000]
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.content) < 32_768, "a problem stays readable, whatever it is about"
    assert_no_job(service)


def test_a_problem_never_repeats_what_was_sent(service: Service) -> None:
    secret = "s3cret-7f9c"
    bodies: list[dict[str, Any]] = [
        {**LEAST, "model": {"name": secret}},
        {**LEAST, "targets": {"sparsity": secret}},
        {**LEAST, "model": {"name": "mlp", "kwargs": {"hidden": secret}}},
        {**LEAST, "baselines": [secret]},
        {**LEAST, "model": {"name": "mlp", "weights": {"sha256": secret}}},
    ]
    answers = [service.http.post("/jobs", json=body).text for body in bodies]
    answers += [
        post(service, '{"' + secret).text,
        service.http.get(f"/{secret}").text,
        service.http.get(f"/jobs/{secret}").text,
        service.http.get("/jobs", params={"limit": secret}).text,
        service.http.get("/jobs", params={"after": secret}).text,
    ]

    assert not [answer for answer in answers if secret in answer]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_json_has_to_be_called_json(service: Service, kind: str) -> None:
    response = service.http.post("/jobs", content=json.dumps(LEAST), headers={"Content-Type": kind})

    assert_problem(response, 415, "unsupported_media_type")
    assert_no_job(service)


def test_a_compressed_body_is_not_taken(service: Service) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    assert_problem(service.http.post("/jobs", content=b"\x1f\x8b", headers=headers), 415, "unsupported_encoding")


def spaces(count: int) -> Iterator[bytes]:
    for _ in range(count // 65_536):
        yield b" " * 65_536


@pytest.mark.parametrize("announced", [True, False], ids=["with its length", "in chunks"])
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_fifty_megabytes_are_refused_and_never_held(service: Service, announced: bool, query: str) -> None:
    headers = {"Content-Type": "application/json"} | ({"Content-Length": str(50 * MIB)} if announced else {})

    tracemalloc.start()
    response = service.http.post(f"/jobs{query}", content=spaces(50 * MIB), headers=headers)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "1048576" in assert_problem(response, 413, "body_too_large")["detail"]
    assert peak < 10 * MIB
    assert_no_job(service)
