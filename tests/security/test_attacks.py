"""What a stranger might try with what the service takes in: one test for each, as docs/security.md lists them."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from api import body as bodies
from api import server as server_module
from purlkit.errors import PurlError
from purlkit.spec import JobSpec
from services.testing import settings_in
from tests.integration.over_http import LEAST, Service, assert_problem, serving
from tests.security.doors import a_weights_file
from tests.waiting import DEADLINE_SECONDS, wait_until

ROOT = Path(__file__).parent.parent.parent
MIB = 2**20


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = {"PURL_TENANT_STREAMS": "5", "PURL_MAX_CONNECTIONS": "40", "PURL_MAX_UPLOAD_BYTES": str(MIB)}
    with serving(tmp_path_factory.mktemp("target"), PURL_MAX_RUNNING="10", **limits) as service:
        service.empty()
        yield service


def post(service: Service, body: str | bytes) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return service.http.post("/jobs", content=body, headers=headers, timeout=2 * DEADLINE_SECONDS)


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            "[" * 100_000,
            '{"a":' * 100_000,
            "[" * 5000 + "]" * 5000,
            '{"model": ' + "[" * 40 + "]" * 40 + "}",
            '{"seed": ' + "9" * 200_000 + "}",
            '{"seed": -1e999999}',
            '{"seed": 1' + "0" * 4300 + "}",
            "{" + ",".join(f'"k{n}": 0' for n in range(20_000)) + "}",
            '{"name": "' + "a" * 900_000 + '"}',
            '{"baselines": [' + "1," * 500_000 + "1]}",
            '{"targets": {"sparsity": [' + "{}," * 300_000 + "1]}}",
            '{"labels": {' + ",".join(f'"{n}":0' for n in range(90_000)) + "}}",
        ],
        ids=[
            *("lists", "objects", "closed", "in a field", "digits", "exponent", "zeros", "names", "text"),
            *("many numbers", "many objects", "many labels"),
        ],
    )
    def test_what_is_deep_long_or_huge_is_refused_at_little_cost(self, target: Service, body: str) -> None:
        target.http.get("/livez")
        tracemalloc.start()
        try:
            answer = post(target, body)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert 400 <= answer.status_code < 500
        assert len(answer.content) < 20_000
        assert most < 60 * MIB

    def test_more_than_the_limit_is_never_kept(self, target: Service) -> None:
        answer = post(target, b" " * (bodies.DISCARD_BYTES // 8))

        assert_problem(answer, 413, "body_too_large")

    def test_one_that_never_comes_is_given_up(self, target: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bodies, "STALLED_SECONDS", 0.2)
        head = (
            b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )

        with connected(target) as line:
            line.sendall(head)
            assert b" 408 " in line.recv(4096)

    def test_a_head_that_never_ends_is_cut_off(self, target: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.2)

        with connected(target) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: local")
            assert _said_at_the_end(line) == b""


def _said_at_the_end(line: socket.socket) -> bytes:
    """A connection may be closed or reset."""
    try:
        return line.recv(10)
    except ConnectionError:
        return b""


def connected(service: Service) -> socket.socket:
    parts = urlsplit(service.url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE_SECONDS)


class TestMany:
    def test_connections_beyond_the_limit_get_a_429_and_the_others_go_on(self, target: Service) -> None:
        idle = [connected(target) for _ in range(60)]
        refused: set[socket.socket] = set()

        def enough() -> bool:
            refused.update(line for line in idle if line not in refused and b" 429 " in _answer(line))
            return len(refused) > 15

        try:
            wait_until("those beyond the limit are refused", enough)
        finally:
            for line in idle:
                line.close()

        assert len(refused) < 60
        wait_until("the others have made room", lambda: target.http.get("/livez").status_code == 200)

    def test_streams_beyond_the_limit_get_a_429(self, target: Service) -> None:
        job = target.submit()["id"]
        path, said = f"/jobs/{job}/events", {"Accept": "text/event-stream"}

        async def hoard() -> list[int]:
            async with httpx.AsyncClient(base_url=target.url, trust_env=False, timeout=DEADLINE_SECONDS) as http:
                held = [await http.send(http.build_request("GET", path, headers=said), stream=True) for _ in range(8)]
                codes = [one.status_code for one in held]
                for one in held:
                    await one.aclose()
                return codes

        assert sorted(asyncio.run(hoard())) == [200] * 5 + [429] * 3
        wait_until("those that have left make room", lambda: not target.parts.streams.count)

    def test_idempotency_keys_end_with_the_queues_room(self, tmp_path: Path) -> None:
        """Each stands for a job: there are never more of them than jobs that the queue takes."""
        with serving(tmp_path, PURL_MAX_QUEUED="20") as service:
            service.empty()
            codes = [
                service.http.post("/jobs", json=LEAST, headers={"Idempotency-Key": f"k{n}"}).status_code
                for n in range(60)
            ]

        assert codes == [202] * 20 + [429] * 40


class TestSpecs:
    @pytest.mark.parametrize(
        ("model", "blamed"),
        [
            ({"name": "mlp", "kwargs": {"hidden": [1_000_000, 1_000_000]}}, "/model/kwargs/hidden"),
            ({"name": "mlp", "kwargs": {"hidden": [8] * 10_000}}, "/model/kwargs/hidden"),
            ({"name": "digits-resnet", "kwargs": {"width": 10**12}}, "/model/kwargs/width"),
            ({"name": "digits-resnet", "kwargs": {"blocks": 10_000}}, "/model/kwargs/blocks"),
        ],
        ids=["a trillion weights", "10,000 layers", "a wide one", "a deep one"],
    )
    def test_networks_that_nobody_could_hold_are_refused_unbuilt(
        self, target: Service, model: dict[str, Any], blamed: str
    ) -> None:
        answer = post(target, json.dumps({**LEAST, "model": model}))

        assert answer.status_code == 422
        assert any(error["pointer"].startswith(blamed) for error in answer.json()["errors"]), answer.text

    @pytest.mark.parametrize(
        "name",
        ["../../etc/passwd", "os.system", "torch.hub.load", "file:///etc/passwd", "http://127.0.0.1/", "purlkit.zoo:x"],
    )
    def test_a_name_is_one_of_the_catalogs_and_no_path_module_or_address(self, target: Service, name: str) -> None:
        for body in (
            {**LEAST, "model": {"name": name}},
            {**LEAST, "dataset": {"name": name}},
        ):
            answer = assert_problem(post(target, json.dumps(body)), 422, "unknown_name")
            assert name not in json.dumps(answer)

    def test_a_callers_words_forge_no_line_of_the_log(self, capfd: pytest.CaptureFixture[str], target: Service) -> None:
        forged = "2026-11-21 api WARNING forged"

        target.submit(name=f"x\n{forged}")
        target.http.get(f"/jobs/%0a{forged.replace(' ', '%20')}")

        lines = "".join(capfd.readouterr()).splitlines()
        assert not [line for line in lines if line.startswith(forged)]


class TestFiles:
    @pytest.mark.parametrize(
        "file",
        [
            b"",
            b"\x80\x04\x95pickle",
            b"PK\x03\x04torch.save",
            struct.pack("<Q", 2**63) + b"{}",
            struct.pack("<Q", 10**8) + b"{" * 100,
            a_weights_file()[:-1],
            a_weights_file() + b"\0",
        ],
        ids=["nothing", "a pickle", "a zip", "an endless header", "a long header", "cut off", "with a tail"],
    )
    def test_what_is_no_safetensors_file_is_refused_and_not_kept(self, target: Service, file: bytes) -> None:
        before = set(target.files())

        assert_problem(target.upload(file), 422, "bad_weights_file")

        assert set(target.files()) == before


class TestWhatRunsCode:
    def test_nothing_that_a_caller_reaches_unpickles_or_evaluates(self) -> None:
        """torch.load opens published weights whose digest is known, and files on a user's own machine."""
        running = re.compile(
            r"\bpickle\.loads?\b|\bUnpickler\b|(?<!safetensors\.)\btorch\.load\b|\bcloudpickle\b|(?<![\w.])(?:eval|exec)\("
            r"|\bmarshal\.|\bshelve\.|\byaml\.load\b|shell=True|\bos\.system\b"
        )
        found = {
            str(path.relative_to(ROOT))
            for package in ("api", "services", "workers", "purlkit")
            for path in (ROOT / package).rglob("*.py")
            if running.search(path.read_text())
        }

        assert found == {"purlkit/zoo/pretrained.py", "purlkit/cli/convert.py"}
        for path in found:
            said = (ROOT / path).read_text()
            assert said.count("torch.load(") == said.count("weights_only=True")

    def test_hostile_specs_end_in_our_own_errors(self) -> None:
        for said in ("{}", "[]", "null", '{"model": null}', '{"model": {"name": {"$ref": "x"}}}'):
            with pytest.raises((PurlError, ValueError)):
                JobSpec.model_validate_json(said)


def _answer(line: socket.socket) -> bytes:
    """What is said to somebody who says nothing: the refusal, or silence."""
    line.settimeout(0.05)
    try:
        return line.recv(4096)
    except (TimeoutError, ConnectionError):
        return b""


def test_no_setting_opens_a_service_to_others_without_keys(tmp_path: Path) -> None:
    """There is none: a switch for it would be named here."""
    names = {name for name in vars(settings_in(tmp_path)) if re.search(r"open|insecure|auth|anonymous|key", name)}

    assert names == set()
