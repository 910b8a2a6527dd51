"""What goes wrong between us and S3: an upload is there whole or refused in time, a download is right or breaks off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.artifacts import S3Store
from services.errors import StoreUnavailable
from tests.faults import Fault, FaultProxy, fault_proxy
from tests.integration.stores import put, sha256_of
from tests.s3 import S3Server

SMALL = b"small " * 1000
LARGE = bytes(range(256)) * 4096 * 20  # 20 MiB: three parts
# What a request may take on a busy machine; where one waits for an answer that never comes, the others have less.
REQUEST_SECONDS = 30.0
HANGS_SECONDS = 4.0


@dataclass(frozen=True)
class Line:
    """The same bucket twice: by a bad line, and as it is."""

    s3: S3Server
    bucket: str
    spool: Path
    proxy: FaultProxy

    @property
    def truth(self) -> S3Store:
        return self.s3.store(self.bucket, self.spool)

    def meeting(self, fault: Fault) -> S3Store:
        """By the bad line."""
        seconds = HANGS_SECONDS if fault == "hang" else REQUEST_SECONDS
        return self.s3.store(self.bucket, self.spool, url=self.proxy.url, request_seconds=seconds)


@pytest.fixture
def line(s3: S3Server, bucket: str, tmp_path: Path) -> Iterator[Line]:
    with fault_proxy(s3.url) as proxy:
        yield Line(s3, bucket, tmp_path / "spool", proxy)


def there(line: Line, data: bytes) -> bool:
    return line.truth.size(sha256_of(data)) == len(data)


@pytest.mark.parametrize("fault", ["drop", "lose the answer", "hang", "cut the request", "500", "503"])
def test_an_upload_outlives_a_fault(line: Line, fault: Fault) -> None:
    line.proxy.plan("PUT", fault)

    put(line.meeting(fault), SMALL)

    assert there(line, SMALL)
    assert line.proxy.waiting == 0


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("POST ?uploads", "500"),
        ("PUT partNumber=2", "drop"),
        ("PUT partNumber=2", "lose the answer"),
        ("POST uploadId=", "500"),
        ("POST uploadId=", "lose the answer"),
        ("POST uploadId=", "hang"),
    ],
)
def test_an_upload_in_parts_outlives_a_fault(line: Line, step: str, fault: Fault) -> None:
    line.proxy.plan(step, fault)

    put(line.meeting(fault), LARGE)

    assert there(line, LARGE)
    assert line.proxy.waiting == 0


@pytest.mark.parametrize("fault", ["lose the answer", "hang"])
def test_an_upload_whose_answer_never_comes_is_settled_by_looking(line: Line, fault: Fault) -> None:
    line.proxy.plan("PUT", *[fault] * 3)

    put(line.meeting(fault), SMALL)

    assert there(line, SMALL)


@pytest.mark.parametrize("fault", ["drop", "cut the request", "503"])
def test_an_upload_that_never_arrives_is_refused_in_time_and_leaves_nothing(line: Line, fault: Fault) -> None:
    line.proxy.plan("PUT", *[fault] * 10)
    began = time.monotonic()

    with pytest.raises(StoreUnavailable):
        put(line.meeting(fault), SMALL)

    assert time.monotonic() - began < 2 * REQUEST_SECONDS
    assert not there(line, SMALL)


def test_a_large_upload_that_breaks_off_leaves_nothing_and_can_be_sent_again(line: Line) -> None:
    line.proxy.plan("partNumber=2", *["drop"] * 10)
    with pytest.raises(StoreUnavailable):
        put(line.meeting("drop"), LARGE)
    assert not there(line, LARGE)
    assert list(line.truth.listing()) == []
    ended = [request for request in line.proxy.requests if request.startswith("DELETE") and "uploadId=" in request]
    assert len(ended) == 1, "S3 is told to throw the other parts away"

    line.proxy.forget()
    put(line.meeting("drop"), LARGE)

    assert there(line, LARGE)


@pytest.mark.parametrize("fault", ["drop", "cut the answer", "hang", "500"])
def test_a_download_goes_on_where_it_broke_off(line: Line, fault: Fault) -> None:
    blob = put(line.truth, LARGE)
    line.proxy.plan("GET", fault)

    with line.meeting(fault).open(blob.sha256, first=7) as file:
        assert file.read() == LARGE[7:]


def test_a_download_that_can_not_go_on_is_never_passed_off_as_whole(line: Line) -> None:
    blob = put(line.truth, LARGE)
    line.proxy.plan("GET", "cut the answer", *["500"] * 30)

    with line.meeting("500").open(blob.sha256) as file, pytest.raises(StoreUnavailable):
        file.read()


def test_a_bucket_that_is_not_there_is_found_out_before_anything_is_taken_in(s3: S3Server, tmp_path: Path) -> None:
    store = s3.store("nobodys-bucket", tmp_path)

    with pytest.raises(StoreUnavailable):
        store.check()
    with pytest.raises(StoreUnavailable):
        put(store, SMALL)
