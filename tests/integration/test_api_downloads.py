"""A job's files over HTTP: whole, in parts, or not at all because the client has them."""

from __future__ import annotations

import base64
import hashlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from purlkit.results import CheckpointRef, Finish, Outcome
from services.artifacts import LocalStore
from services.testing import a_blob, a_result
from tests.integration.over_http import Service, assert_problem, serving
from tests.s3 import S3Server

DATA = bytes(range(256)) * 5000  # some pieces long
SHA256 = hashlib.sha256(DATA).hexdigest()
ETAG = f'"{SHA256}"'


@pytest.fixture(scope="module", params=["disk", "s3"])
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, s3: S3Server
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("finished")
    in_s3 = request.param == "s3"
    store = s3.store(s3.make_bucket("downloads"), folder / "spool") if in_s3 else None
    with serving(folder, store=store) as service:
        service.submit()
        service.claim().succeed(DATA)
        yield service


@pytest.fixture
def path(finished: Service) -> str:
    (job,) = finished.http.get("/jobs").json()["data"]
    checkpoint: str = job["links"]["checkpoint"]
    return checkpoint


def test_the_whole_file_with_all_that_proves_it(finished: Service, path: str) -> None:
    response = finished.http.get(path)

    assert (response.status_code, response.content) == (200, DATA)
    headers = response.headers
    assert headers["etag"] == ETAG
    assert headers["repr-digest"] == f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"
    assert headers["content-length"] == str(len(DATA))
    assert headers["accept-ranges"] == "bytes"
    assert headers["content-disposition"] == 'attachment; filename="pruned.safetensors"'
    assert headers["x-content-type-options"] == "nosniff"


def test_the_checkpoint_is_the_artifact_of_that_name(finished: Service, path: str) -> None:
    response = finished.http.get(path.replace("checkpoint", "artifacts/pruned.safetensors"))

    assert (response.content, response.headers["etag"]) == (DATA, ETAG)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=300000-900000", 300_000, 900_000),
        ("bytes=1279990-", 1_279_990, 1_279_999),
        ("bytes=1279990-99999999", 1_279_990, 1_279_999),
        ("bytes=-10", 1_279_990, 1_279_999),
    ],
)
def test_a_part(finished: Service, path: str, asked: str, first: int, last: int) -> None:
    response = finished.http.get(path, headers={"Range": asked})

    assert (response.status_code, response.content) == (206, DATA[first : last + 1])
    assert response.headers["content-range"] == f"bytes {first}-{last}/{len(DATA)}"
    assert response.headers["content-length"] == str(last - first + 1)
    assert response.headers["etag"] == ETAG


def test_a_download_goes_on_where_it_broke_off(finished: Service, path: str) -> None:
    begun = finished.http.get(path, headers={"Range": "bytes=0-99999"}).content
    rest = finished.http.get(path, headers={"Range": f"bytes={len(begun)}-", "If-Range": ETAG})

    assert rest.status_code == 206
    assert hashlib.sha256(begun + rest.content).hexdigest() == SHA256


def test_another_file_is_never_mixed_in(finished: Service, path: str) -> None:
    response = finished.http.get(path, headers={"Range": "bytes=5-9", "If-Range": '"what it was before"'})

    assert (response.status_code, response.content) == (200, DATA)


@pytest.mark.parametrize("asked", ["bytes=1280000-", "bytes=-0", "bytes=9-5", "bytes=x"])
def test_a_part_that_the_file_does_not_have(finished: Service, path: str, asked: str) -> None:
    response = finished.http.get(path, headers={"Range": asked})

    assert_problem(response, 416, "range_not_satisfiable")
    assert response.headers["content-range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes=0-1,5-6"])
def test_what_we_do_not_cut_is_sent_whole(finished: Service, path: str, asked: str) -> None:
    assert finished.http.get(path, headers={"Range": asked}).status_code == 200


def test_a_client_that_has_the_file_is_told_so(finished: Service, path: str) -> None:
    response = finished.http.get(path, headers={"If-None-Match": ETAG, "Range": "bytes=0-1"})

    assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", ETAG)


def test_the_headers_alone(finished: Service, path: str) -> None:
    response = finished.http.head(path)

    assert (response.status_code, response.content) == (200, b"")
    assert (response.headers["content-length"], response.headers["etag"]) == (str(len(DATA)), ETAG)


@pytest.mark.parametrize("name", ["policy.json", ".hidden", "..%2f..%2fpurl.db", "%00", "n" * 101])
def test_a_file_that_is_not_there(finished: Service, path: str, name: str) -> None:
    assert_problem(finished.http.get(path.replace("checkpoint", f"artifacts/{name}")), 404, "not_found")


def test_a_client_may_ask_to_be_sent_to_the_store_itself(finished: Service, path: str) -> None:
    sent = finished.http.get(path, params={"redirect": "true"}, headers={"Range": "bytes=5-9"})

    if isinstance(finished.store, LocalStore):
        assert (sent.status_code, sent.content) == (206, DATA[5:10])
    else:
        assert sent.status_code == 307
        there = httpx.get(sent.headers["location"], headers={"Range": "bytes=5-9"}, timeout=60, trust_env=False)
        assert (there.status_code, there.content) == (206, DATA[5:10])


def two_targets(sparse: bytes, dense: bytes) -> Finish:
    """A result of two targets, whose headline is the first's."""
    result = a_result(a_blob(sparse))
    [point] = result.points
    refs = {
        target: CheckpointRef(name=f"pruned-{target}.safetensors", sha256=a_blob(data).sha256, bytes=len(data))
        for target, data in ((0.5, dense), (0.9, sparse))
    }
    points = tuple(point.model_copy(update={"target": target, "checkpoint": ref}) for target, ref in refs.items())
    told = result.model_copy(update={"points": points, "checkpoint": refs[0.9]})
    return Finish(outcome=Outcome.SUCCEEDED, result=told, artifacts=tuple(ref.name for ref in refs.values()))


def test_each_of_several_targets_has_a_checkpoint(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        job_id = service.submit()["id"]
        worker = service.claim()
        finish = two_targets(b"sparse", b"dense")
        worker.stage("pruned-0.9.safetensors", b"sparse")
        assert_problem(worker.finish(finish), 422, "invalid_finish")  # the other one is missing
        worker.stage("pruned-0.5.safetensors", b"dense")
        assert worker.finish(finish).status_code == 200

        job = service.http.get(f"/jobs/{job_id}").json()
        hrefs = {point["target"]: point["checkpoint"]["href"] for point in job["result"]["points"]}
        assert {target: service.http.get(href).content for target, href in hrefs.items()} == {
            0.5: b"dense",
            0.9: b"sparse",
        }
        assert service.http.get(job["result"]["checkpoint"]["href"]).content == b"sparse"
        missing = service.http.get(f"/jobs/{job_id}/checkpoint?sparsity=0.7")
        assert_problem(missing, 404, "no_checkpoint")
        assert missing.json()["detail"].endswith("ask for one of 0.5, 0.9")


def test_a_large_file_is_never_held_whole(tmp_path: Path) -> None:
    big = b"\0" * (64 * 2**20)
    with serving(tmp_path) as service:
        job_id = service.submit()["id"]
        service.claim().succeed(big)
        size = len(big)
        del big

        tracemalloc.start()
        with service.http.stream("GET", f"/jobs/{job_id}/checkpoint") as response:
            received = sum(len(piece) for piece in response.iter_bytes())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert received == size
    assert peak < 16 * 2**20
