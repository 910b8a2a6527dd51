"""The examples on the real service, each with a real job. tests/integration runs them with jobs that are played."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.running import RunningService, serving
from tests.integration.test_the_examples import environment, executed, said_by

pytestmark = [pytest.mark.acceptance, pytest.mark.long]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    yield from serving(tmp_path_factory.mktemp("examples") / "data")


def test_the_quick_start(service: RunningService, tmp_path: Path) -> None:
    said = said_by("quick_start.py", tmp_path, service.url)

    assert "phase: race" in said
    assert "at 90.0 % sparsity" in said
    assert (tmp_path / "out" / "report.html").exists()


def test_weights_of_ones_own(service: RunningService, tmp_path: Path) -> None:
    said = said_by("own_weights.py", tmp_path, service.url)

    assert "at 80.0 % sparsity" in said
    assert "loaded again: " in said


def test_the_pareto_sweep(service: RunningService, tmp_path: Path) -> None:
    said = said_by("pareto_sweep.py", tmp_path, service.url)

    assert [line.split()[0] for line in said.splitlines()[1:4]] == ["50%", "80%", "90%"]
    assert len(list((tmp_path / "out").glob("pruned*.safetensors"))) == 3


def test_the_notebook(service: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(tmp_path, service.url).items():
        monkeypatch.setenv(name, value)

    live, ended, again = executed(tmp_path)

    assert "after each of 12 episodes" in live
    for page in (ended, again):
        assert "at 80.0 % sparsity" in page
