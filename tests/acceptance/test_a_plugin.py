"""The example package, installed as an operator would: its model is offered, and pruned on its own data."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.running import JOB_SECONDS, PATIENT, ROOT, RunningService, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    """Installed beside the tests' environment and not into it; no index is asked for anything."""
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", installed, ROOT / "examples/plugin"], check=True)
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    yield from serving(tmp_path / "data", PYTHONPATH=path, **PATIENT)


def test_the_example_plugins_model_is_pruned_on_its_own_data(service: RunningService) -> None:
    offered = {model["name"]: model for model in service.http.get("/models").json()["data"]}
    data = {one["name"]: one for one in service.http.get("/datasets").json()["data"]}
    env = {**os.environ, "PURL_URL": service.url}
    with subprocess.Popen([sys.executable, ROOT / "examples/own_model.py"], env=env, stdout=subprocess.PIPE) as example:
        try:
            listed = wait_until(
                "the example has made its job", lambda: service.http.get("/jobs").json()["data"], seconds=JOB_SECONDS
            )
            job = service.ended(listed[0]["id"])
            said, _ = example.communicate(timeout=JOB_SECONDS)
        finally:
            example.kill()  # one that hangs

    assert example.returncode == 0
    assert job["result"]["verdict"] in said.decode()
    assert (offered["shapes-net"]["provider"], offered["shapes-net"]["dataset"]) == ("plugin", "shapes")
    assert (data["shapes"]["available"], data["shapes"]["shape"], data["shapes"]["classes"]) == (True, [1, 12, 12], 2)
    assert job["state"] == "succeeded", job["error"]
    assert job["spec"]["dataset"]["name"] == "shapes"
    assert job["result"]["prunable_weights"] == 9 * 4 + 9 * 4 * 8 + 4 * 8 * 2
    assert job["result"]["sparsity"] == pytest.approx(0.5, abs=0.001)
    assert job["result"]["splits"] == {"train": 1200, "reward": 200, "select": 200, "test": 200}
