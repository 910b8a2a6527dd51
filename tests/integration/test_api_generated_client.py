"""A client that a stranger's generator made of the document, and nothing else, runs a job."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.integration.over_http import Service

GENERATED = "purl_as_generated"


@pytest.fixture(scope="module")
def generated(running_service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_bytes(running_service.http.get("/openapi.json").content)
    (folder / "config.yml").write_text("post_hooks: []\n")
    command = [str(Path(sys.executable).parent / "openapi-python-client"), "generate", "--meta", "none"]
    command += ["--path", "openapi.json", "--config", "config.yml", "--output-path", GENERATED, "--fail-on-warning"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield folder / GENERATED
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == GENERATED]:
        del sys.modules[name]


def part(name: str) -> ModuleType:
    return importlib.import_module(f"{GENERATED}.{name}")


@pytest.mark.usefixtures("generated")
def test_a_job_from_its_submission_to_its_checkpoint(service: Service) -> None:
    models = part("models")
    spec = models.JobSpec(
        model=models.Model(name="digits-resnet"), targets=models.Targets(sparsity=0.9), search=models.Search(episodes=3)
    )

    with part("client").Client(base_url=service.url) as client:
        job = part("api.jobs.submit_job").sync(client=client, body=spec, idempotency_key="generated")
        again = part("api.jobs.submit_job").sync(client=client, body=spec, idempotency_key="generated")
        service.claim().succeed(b"the pruned network")
        done = part("api.jobs.get_job").sync(job.id, client=client)
        page = part("api.jobs.list_jobs").sync(client=client, state=models.JobState.SUCCEEDED, limit=5)
        layers = part("api.results.list_layers").sync(job.id, client=client)
        checkpoint = part("api.results.get_checkpoint").sync(job.id, client=client)

    assert (job.state, again.id) == (models.JobState.QUEUED, job.id)
    assert job.spec.search.episodes == 3
    assert (done.state, done.result.sparsity) == (models.JobState.SUCCEEDED, 0.9)
    assert [listed.id for listed in page.data] == [job.id]
    assert layers.data[0].winner
    assert checkpoint.payload.read() == b"the pruned network"


@pytest.mark.usefixtures("generated")
def test_a_refusal_is_a_problem_with_its_code(service: Service) -> None:
    models = part("models")
    spec = models.JobSpec(model=models.Model(name="no-such-net"), targets=models.Targets(sparsity=0.9))

    with part("client").Client(base_url=service.url) as client:
        refused = part("api.jobs.submit_job").sync(client=client, body=spec)
        missing = part("api.jobs.get_job").sync("job_none", client=client)

    assert isinstance(refused, models.ProblemDocument)
    assert (refused.status, refused.code, refused.errors[0].pointer) == (422, "unknown_name", "/model/name")
    assert (missing.status, missing.code) == (404, "not_found")
