"""Uploads of dense weights: data only, checked before they are kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from purlkit.results import AttemptBrief
from tests.integration.over_http import LEAST, Service, assert_problem, digest_of, serving


def safetensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def a_file(count: int = 3) -> bytes:
    """Some tensors of four floats."""
    header = {
        f"layer.{number}": {"dtype": "F32", "shape": [4], "data_offsets": [16 * number, 16 * number + 16]}
        for number in range(count)
    }
    return safetensors(header, bytes(range(16)) * count)


def test_an_upload_is_known_by_its_sha256(service: Service) -> None:
    data = a_file()

    first = service.upload(data, digest=digest_of(data))
    again = service.upload(data)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json() == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "tensors": 3}


def test_what_is_kept_is_listed_page_after_page(service: Service) -> None:
    sent = {service.upload(a_file(count)).json()["sha256"]: 16 * count for count in (1, 2, 3)}

    first = service.http.get("/weights", params={"limit": 2}).json()
    rest = service.http.get("/weights", params={"limit": 2, "after": first["next"]}).json()

    assert (len(first["data"]), first["has_more"], rest["has_more"]) == (2, True, False)
    listed = [*first["data"], *rest["data"]]
    assert [one["sha256"] for one in listed] == sorted(sent)
    assert [one["tensors"] for one in listed] == [sent[one["sha256"]] // 16 for one in listed]
    assert all(one["created_at"] for one in listed)
    assert_problem(service.http.get("/weights", params={"after": "bm90IGEgc3Vt"}), 422, "invalid_cursor")


def test_a_job_starts_from_uploaded_weights(service: Service) -> None:
    data = a_file()
    sha256 = service.upload(data).json()["sha256"]

    service.submit(model={"name": "digits-resnet", "weights": {"sha256": sha256}})
    worker = service.claim()
    brief = AttemptBrief.model_validate_json(worker.call("GET").content)

    assert brief.weights_href is not None
    assert worker.call("GET", brief.weights_href).content == data


def test_a_job_that_trains_its_own_has_none_to_fetch(service: Service) -> None:
    service.submit()

    assert_problem(service.claim().call("GET", "/weights"), 404, "not_found")


def test_an_upload_in_many_chunks_is_one_file(service: Service) -> None:
    data = a_file(count=5000)

    def drip() -> list[bytes]:
        return [data[:3], data[3:11], *(data[at : at + 7001] for at in range(11, len(data), 7001))]

    response = service.upload(iter(drip()))

    assert response.json() == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "tensors": 5000}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        b"PK\x03\x04" + b"\0" * 100,
        b"\x80\x04\x95" + b"pickle" * 100,
        safetensors({}),
        safetensors(b"not json"),
        safetensors(b"[" * 10_000),
        safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}, b"\0" * 8),
        a_file()[:-1],
        a_file() + b"!",
        (2**63).to_bytes(8, "little") + b"{}",
        (2**20).to_bytes(8, "little") + b"{}",
    ],
    ids=lambda data: data[:12].hex(),
)
def test_what_is_no_safetensors_file_leaves_nothing_behind(service: Service, data: bytes) -> None:
    problem = assert_problem(service.upload(data), 422, "bad_weights_file")

    assert "save_file" in problem["detail"]
    assert service.files() == []


def test_a_wrong_kind_of_file_is_refused_before_it_has_all_arrived(service: Service) -> None:
    sent = 0

    def endless() -> object:
        nonlocal sent
        while sent < 2**30:
            sent += 2**20
            yield b"\xff" * 2**20

    response = service.upload(endless())  # type: ignore[arg-type]

    assert_problem(response, 422, "bad_weights_file")
    assert service.files() == []


def test_the_digest_is_checked(service: Service) -> None:
    response = service.upload(a_file(), digest=digest_of(b"other"))

    assert_problem(response, 400, "digest_mismatch")
    assert service.files() == []


def test_a_digest_that_is_none(service: Service) -> None:
    response = service.upload(a_file(), digest="sha-256=:x:")

    assert_problem(response, 400, "digest_required")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_an_upload_says_that_it_is_bytes(service: Service, kind: str) -> None:
    """The kinds that a page of another site may send to this machine without asking."""
    response = service.http.post("/weights", content=a_file(), headers={"Content-Type": kind} if kind else {})

    problem = assert_problem(response, 415, "unsupported_media_type")
    assert problem["errors"][0]["parameter"] == "Content-Type"
    assert service.files() == []


@pytest.mark.parametrize("announced", [True, False])
def test_an_upload_that_is_too_large(tmp_path: Path, announced: bool) -> None:
    data = a_file(count=2000)
    with serving(tmp_path, PURL_MAX_UPLOAD_BYTES="10000") as service:
        response = service.upload(data if announced else iter([data[:5000], data[5000:]]))

        assert_problem(response, 413, "body_too_large")
        assert service.files() == []


def test_a_job_can_not_name_weights_that_are_not_here(service: Service) -> None:
    body = {**LEAST, "model": {"name": "digits-resnet", "weights": {"sha256": "0" * 64}}}

    problem = assert_problem(service.http.post("/jobs", json=body), 422, "missing_weights")

    assert problem["errors"][0]["pointer"] == "/model/weights/sha256"
    assert "POST /weights" in problem["detail"]
