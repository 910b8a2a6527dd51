"""The examples as a reader would start them, on a service whose jobs are played; tests/acceptance has real ones."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from purlkit.results import AttemptBrief, CheckReport, Layer, PhaseCost
from services import attempts
from services.testing import an_episode
from tests.integration.over_http import HttpWorker, Service, reports

JOB_SECONDS = 240  # of a real one
ROOT = Path(__file__).parent.parent.parent
CAN_RUN = CheckReport(
    runnable=True,
    layers=(Layer(name="0", kind="linear", shape=(32, 64), weights=2048),),
    prunable_weights=3392,
    sparsity_range=(0.0, 0.999),
    costs=(PhaseCost(phase="search", images=12_000, device_hours=0.01),),
)


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    """Of a service whose jobs end at once."""
    service.launcher.checker = reports(CAN_RUN)
    with worked_off(service):
        yield service.url


@contextmanager
def worked_off(service: Service) -> Iterator[None]:
    """Whatever is queued is played to its end, by something that looks for it again and again."""
    over = threading.Event()
    thread = threading.Thread(target=_work, args=(service, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _work(service: Service, over: threading.Event) -> None:
    while not over.wait(0.05):
        with service.db.write() as session:
            claim = attempts.claim(session, service.settings)
        if claim is not None:
            _play(HttpWorker(service.url, claim.attempt_id, claim.token))


def _play(worker: HttpWorker) -> None:
    """Weights that were sent come back as they are; a job without any leaves bytes that nobody opens."""
    brief = AttemptBrief.model_validate_json(worker.call("GET").content)
    worker.beat()
    worker.say(*(an_episode(number) for number in range(4)))
    weights = brief.weights_href
    worker.succeed(worker.call("GET", weights).content if weights else b"a network").raise_for_status()


def environment(folder: Path, url: str) -> Mapping[str, str]:
    """The tests' own, with all that a kernel writes for itself below the folder, and one thread to a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PURL_")}
    places = ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")
    return {
        **kept,
        "PURL_URL": url,
        "PURL_PATIENCE": "120",
        "OMP_NUM_THREADS": "1",
        **{name: str(folder / name.lower()) for name in places},
    }


def said_by(name: str, folder: Path, url: str) -> str:
    command = [sys.executable, ROOT / "examples" / name]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder, url), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_quick_start(url: str, tmp_path: Path) -> None:
    said = said_by("quick_start.py", tmp_path, url)

    assert "episode 4: accuracy 50.0% at sparsity 40.0%" in said
    assert "global magnitude ships" in said
    assert (tmp_path / "out" / "pruned.safetensors").read_bytes() == b"a network"


def test_weights_of_ones_own_go_up_and_come_back(url: str, service: Service, tmp_path: Path) -> None:
    said = said_by("own_weights.py", tmp_path, url)

    (job,) = service.http.get("/jobs").json()["data"]
    (kept,) = service.http.get("/weights").json()["data"]
    assert job["spec"]["model"]["weights"] == {"sha256": kept["sha256"]}
    assert "3,392 prunable weights" in said
    assert "loaded again: 9" in said, "the digits are not hard"


def test_the_pareto_sweep(url: str, service: Service, tmp_path: Path) -> None:
    said = said_by("pareto_sweep.py", tmp_path, url)

    (job,) = service.http.get("/jobs").json()["data"]
    assert job["spec"]["targets"]["sparsity"] == [0.5, 0.8, 0.9]
    assert "90%     90.0%  global  on the front" in said
    assert (tmp_path / "out" / "pruned.safetensors").exists()


def test_a_model_that_is_not_installed_is_asked_for(url: str, tmp_path: Path) -> None:
    """tests/acceptance/test_a_plugin.py runs the example where it is."""
    with pytest.raises(AssertionError, match="install examples/plugin where it runs"):
        said_by("own_model.py", tmp_path, url)


def test_the_library_needs_no_service(tmp_path: Path) -> None:
    said = said_by("library.py", tmp_path, "http://127.0.0.1:1")

    assert "PuRL: 80.0% removed" in said
    assert "LAMP: 80.0% removed" in said


def test_the_notebook_runs_from_top_to_bottom(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(tmp_path, url).items():
        monkeypatch.setenv(name, value)

    live, ended, again = executed(tmp_path)

    assert "Accuracy and sparsity after each of 4 episodes" in live
    for page in (ended, again):
        assert "global magnitude ships" in page
        assert "Test accuracy of every candidate over its sparsity" in page
        assert "<script" not in page
    assert (tmp_path / "out" / "pruned.safetensors").exists()


def executed(folder: Path) -> list[str]:
    """The notebook's pages, one of each cell that shows one, from a kernel of its own."""
    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without what it printed"
    limits = {"timeout": JOB_SECONDS, "startup_timeout": JOB_SECONDS}
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **limits).execute()
    return [page for cell in notebook.cells for output in cell.get("outputs", []) if (page := _html(output))]


def _html(output: Any) -> str:
    return str(output.get("data", {}).get("text/html", ""))
