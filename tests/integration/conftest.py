import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.artifacts import LocalStore
from tests import postgres
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


@pytest.fixture
def disk_shelf(tmp_path: Path) -> Shelf:
    return LocalShelf(LocalStore(tmp_path / "artifacts"))


@pytest.fixture
def s3_shelf(s3: S3Server, bucket: str, tmp_path: Path) -> Shelf:
    return S3Shelf(s3.store(bucket, tmp_path / "spool", prefix="some/where"))


@pytest.fixture(params=["disk", "s3"])
def shelf(request: pytest.FixtureRequest) -> Shelf:
    """A store of either kind, empty."""
    made: Shelf = request.getfixturevalue(f"{request.param}_shelf")
    return made


# What a caller sees of states, keys, events and logs must be the same on both; other routes know nothing of them.
ON_BOTH = (
    "test_api_jobs",
    "test_api_attempts",
    "test_api_events",
    "test_api_lists",
    "test_api_logs",
    "test_api_moves",
    "test_api_sweeps",
    "test_api_contract",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_both = metafunc.module.__name__.rpartition(".")[2] in ON_BOTH
    if on_both and "running_service" in metafunc.fixturenames:
        metafunc.parametrize("running_service", ["sqlite", "postgresql"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def running_service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """On SQLite, unless the test is to run on both databases."""
    environ = {"PURL_MAX_RUNNING": "10"}
    if getattr(request, "param", "sqlite") == "postgresql":
        server: postgres.Databases = request.getfixturevalue("postgresql")
        environ["PURL_DATABASE_URL"] = server.create()
    with serving(tmp_path_factory.mktemp("service"), **environ) as running:
        yield running


@pytest.fixture
def service(running_service: Service) -> Service:
    """A service that nobody has used yet. Starting one takes longer than most tests, so it is the old one, emptied."""
    running_service.empty()
    return running_service
