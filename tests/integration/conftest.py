from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import Bench
from tests.integration.over_http import Service, serving


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """The state of a service without its processes."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that answers over HTTP."""
    with serving(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """For tests that change nothing, which is what they show."""
    with serving(tmp_path_factory.mktemp("shared")) as running:
        yield running
