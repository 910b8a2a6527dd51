"""What every test may use, and one thread for each process, set before torch is imported: they share few cores."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from services.testing import migrated_file, settings_in
from tests import postgres
from tests.bench import Bench

LEFT_OUT = pytest.StashKey[int]()

# Files that take more than half a minute, the longest first.
LONG = (
    "test_it_survives.py",
    "test_search_on_ray.py",
    "test_a_job.py",
    "test_short.py",
    "test_supervisor.py",
    "test_the_demo.py",
    "test_random_kills.py",
    "test_the_race.py",
    "test_cluster.py",
    "test_one_key.py",
    "test_compose.py",
    "test_a_plugin.py",
    "test_dashboard_browser.py",
    "test_failpoints.py",
    "test_ray_jobs.py",
    "test_api_process.py",
)

os.environ.setdefault("OMP_NUM_THREADS", "1")
# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
gc.disable()  # until all is imported: purlkit/startup.py says why


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgres.Databases]:
    """A real server, started when the first test asks for it."""
    with postgres.databases() as made:
        yield made


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs a GPU is left out where there is none, and counted among the deselected.

    The long files are spread among the others: together they would fight for the cores, and at the end they would leave
    them idle.
    """
    items[:] = _spread(items)
    for_a_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not for_a_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        items[:] = [item for item in items if item not in for_a_gpu]
        config.hook.pytest_deselected(items=for_a_gpu)
        config.stash[LEFT_OUT] = len(for_a_gpu)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """All is collected now, or, in xdist's controller, will be by others."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # after pytest's own last looks for garbage


def _spread(items: list[pytest.Item]) -> list[pytest.Item]:
    by_file: dict[Path, list[pytest.Item]] = {}
    for item in items:
        by_file.setdefault(item.path, []).append(item)
    long = sorted((path for path in by_file if path.name in LONG), key=lambda path: LONG.index(path.name))
    others = [path for path in by_file if path.name not in LONG]
    between = max(1, len(others) // (len(long) + 1))
    ordered: list[Path] = []
    for number, path in enumerate(others):
        if number % between == 0 and long:
            ordered.append(long.pop(0))
        ordered.append(path)
    return [item for path in [*ordered, *long] for item in by_file[path]]


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    left_out = config.stash.get(LEFT_OUT, 0)
    return f"no CUDA device here: {left_out} tests marked gpu are left out" if left_out else ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests told of themselves, by `record_property("told", …)`: figures, and what a machine did not have."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    for report in reports:
        for name, value in report.user_properties:
            if name == "told":
                terminalreporter.write_line(f"{report.location[2]}: {value}")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    url = settings_in(tmp_path).database_url
    Path(url.removeprefix("sqlite:///")).write_bytes(migrated_file())
    return url


@pytest.fixture
def postgresql_url(postgresql: postgres.Databases) -> Iterator[str]:
    url = postgresql.create()
    yield url
    postgresql.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database that holds the program's tables and nothing else: each test runs once on each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def bench(tmp_path: Path, database_url: str) -> Iterator[Bench]:
    """The state of a service without its processes."""
    bench = Bench(tmp_path, database_url)
    yield bench
    bench.close()
