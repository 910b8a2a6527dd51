import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.artifacts import LocalStore
from tests.integration.over_http import Service, serving
from tests.integration.stores import LocalShelf, S3Shelf, Shelf
from tests.s3 import S3Server, s3_server

BUCKETS = itertools.count()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket(f"bucket-{next(BUCKETS)}")


@pytest.fixture(params=["disk", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """A store of either kind, empty."""
    if request.param == "disk":
        return LocalShelf(LocalStore(tmp_path / "artifacts"))
    s3, bucket = request.getfixturevalue("s3"), request.getfixturevalue("bucket")
    return S3Shelf(s3.store(bucket, tmp_path / "spool", prefix="some/where"))


@pytest.fixture(scope="session")
def running_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service"), PURL_MAX_RUNNING="10") as running:
        yield running


@pytest.fixture
def service(running_service: Service) -> Service:
    """A service that nobody has used yet. Starting one takes longer than most tests, so it is the old one, emptied."""
    running_service.empty()
    return running_service
