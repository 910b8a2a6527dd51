from collections.abc import Iterator

import pytest

from tests.integration.over_http import Service, serving


@pytest.fixture(scope="session")
def running_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service"), PURL_MAX_RUNNING="10") as running:
        yield running


@pytest.fixture
def service(running_service: Service) -> Service:
    """A service that nobody has used yet. Starting one takes longer than most tests, so it is the old one, emptied."""
    running_service.empty()
    return running_service
