"""Real processes of two versions: a whole job with workers of the next one, and one with a service of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.running import LEAST_JOB, ROOT
from tests.versions import LOGS, NEWS, next_version, served

pytestmark = pytest.mark.acceptance


# That each version understands what the other says is tested in seconds in tests/integration/test_one_version_apart.py.
@pytest.mark.long
@pytest.mark.parametrize("newer", ["service", "workers"])
def test_a_job_runs_across_them(newer: str, tmp_path: Path) -> None:
    following = next_version(tmp_path / "next", migrates=False)
    service, workers = (following, ROOT) if newer == "service" else (ROOT, following)

    with served(service, workers, tmp_path / "data") as user:
        job = user.ended(user.submit(LEAST_JOB))
        log = user.http.get(f"/jobs/{job['id']}/artifacts/attempt.log").text

    assert job["state"] == "succeeded", job["error"]
    assert len(job["attempts"]) == 1
    assert (f"{LOGS}search" in log) == (newer == "workers")
    assert (NEWS in job["result"]) == (newer == "service")
