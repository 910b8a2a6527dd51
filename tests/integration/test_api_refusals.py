"""What is refused, how, and that nothing is left of it."""

from __future__ import annotations

import json
import shutil
import socket
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.over_http import LEAST, Service, assert_problem, serving

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


def talk(service: Service, request: bytes) -> bytes:
    """Says this and returns the first thing that is answered."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        return connection.recv(65_536)


HEAD = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("length", [b"52428800", b"9" * 18, b"1" + b"0" * 18])
def test_a_client_that_asks_first_need_not_send_anything(service: Service, length: bytes) -> None:
    answer = talk(service, HEAD + b"Content-Length: " + length + b"\r\nExpect: 100-continue\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_length_that_is_too_short_cuts_the_body(service: Service) -> None:
    body = json.dumps(LEAST).encode()

    answer = talk(service, HEAD + b"Content-Length: 10\r\n\r\n" + body)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert_no_job(service)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "[", "127.0.0.2"])
def test_a_page_that_has_its_own_name_lead_here_gets_nothing(service: Service, host: str) -> None:
    """DNS rebinding: the browser believes that this machine is the page's own server."""
    response = service.http.get("/jobs", headers={"Host": host})

    assert_problem(response, 421, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000"])
def test_the_names_of_this_machine(service: Service, host: str) -> None:
    assert service.http.get("/livez", headers={"Host": host}).status_code == 200


def test_behind_a_proxy_the_public_name_is_its_own(tmp_path: Path) -> None:
    with serving(tmp_path, public_url="https://prune.example:8443") as service:
        assert service.http.get("/livez", headers={"Host": "prune.example:8443"}).status_code == 200
        assert service.http.get("/livez", headers={"Host": "other.example"}).status_code == 421


@pytest.mark.parametrize("one_header", [True, False], ids=["one header", "many headers"])
def test_endless_headers_are_cut_off(service: Service, one_header: bool) -> None:
    endless = b"X-More: " + b"x" * 200_000 if one_header else b"X-More: x\r\n" * 20_000

    answer = talk(service, b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n" + endless)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "head_too_large"


def test_a_client_that_leaves_before_it_has_said_all(service: Service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")

    assert_no_job(service)


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("GET", "/jobs/"), ("POST", "/nowhere")])
def test_an_address_that_is_none(service: Service, method: str, path: str) -> None:
    assert_problem(service.http.request(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/jobs", "GET, HEAD, POST"),
        ("PUT", "/models", "GET, HEAD"),
        ("GET", "/weights", "POST"),
        ("PATCH", "/jobs/x/cancel", "POST"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("DELETE", "/docs", "GET, HEAD"),
    ],
)
def test_a_method_that_an_address_does_not_take(service: Service, method: str, path: str, allow: str) -> None:
    response = service.http.request(method, path)

    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allow


def test_a_fault_of_our_own_says_no_more_than_that(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path) as service:
        shutil.rmtree(service.settings.artifacts)
        response = service.upload(b"x")

    assert_problem(response, 500, "internal_error")
    assert str(tmp_path) not in response.text
    assert str(tmp_path) in caplog.text, "whoever runs the service finds the cause in its log"
