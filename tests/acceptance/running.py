"""The real service as a user runs it: `python -m services`, and what tests do to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from purlkit.processes import PROC, session_members
from services.database import Database
from services.tables import Attempt
from services.testing import settings_in
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent

# Leases as short as a busy machine of two cores bears as a rule, so that a rescue does not take a minute.
QUICK = {
    "PURL_PORT": "0",
    "PURL_LEASE_SECONDS": "20",
    "PURL_HEARTBEAT_SECONDS": "1",
    "PURL_POLL_SECONDS": "0.5",
}

# For what needs no lease to run out: an attempt that dies here is seen to be dead. It keeps its lease while an API that
# was killed starts again, and a checker its time, on a machine where that takes half a minute.
PATIENT = {"PURL_LEASE_SECONDS": "120", "PURL_CHECK_SECONDS": "300"}

# Small enough for seconds, real in every part: a trained net, RLlib on Ray with two runners, a race, a verified file.
SMALL_JOB: dict[str, Any] = {
    "model": {"name": "mlp", "kwargs": {"hidden": 32}, "weights": {"train": {"epochs": 5}}},
    "targets": {"sparsity": 0.8},
    "search": {"episodes": 12, "greedy_episodes": 2, "retrain": {"epochs": 4}},
    "fine_tune": {"epochs": 2},
    "seed": 7,
}
# The same with time enough to kill something in the middle of it.
LONGER_JOB: dict[str, Any] = {**SMALL_JOB, "search": {**SMALL_JOB["search"], "episodes": 40}}
# As small as a whole job can be, for what is not about the search.
LEAST_JOB: dict[str, Any] = {
    **SMALL_JOB,
    "search": {"episodes": 2, "greedy_episodes": 1, "retrain": {"epochs": 1}},
    "fine_tune": {"epochs": 1},
    "resources": {"env_runners": 1},
}

# The same on the images that tests.unit.test_image_folders.write_images makes.
ON_IMAGES: dict[str, Any] = {
    **LEAST_JOB,
    "dataset": {"name": "image-folder", "kwargs": {"folder": "flowers", "classes": 3, "size": 16}},
    "search": {**LEAST_JOB["search"], "retrain": {"epochs": 1, "images": 20}},
}

# Limits that nothing comes near, but on a machine that is busy with other things: of one call, which may have to wait
# for an API that starts, of a service that starts, of one that stops, and of a job.
CALL_SECONDS, START_SECONDS, STOP_SECONDS, JOB_SECONDS = 120.0, 300.0, 300.0, 1200.0
ENDED = ("succeeded", "failed", "cancelled")


class Jobs:
    """What a user does with jobs, and sees of them."""

    http: httpx.Client

    def submit(self, body: dict[str, Any]) -> str:
        answer = self.http.post("/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/jobs/{job_id}")
        answer.raise_for_status()
        job: dict[str, Any] = answer.json()
        return job

    def ended(self, job_id: str, *, seconds: float = JOB_SECONDS) -> dict[str, Any]:
        return wait_until(
            f"{job_id} has ended",
            lambda: job if (job := self.job(job_id))["state"] in ENDED else None,
            seconds=seconds,
            longest_pause=1.0,  # nothing is to be met in the middle: its end stays
        )

    def episodes(self, job_id: str, kind: str = "search") -> list[dict[str, Any]]:
        rows = self.http.get(f"/jobs/{job_id}/episodes", params={"limit": 1000}).json()["data"]
        return [row for row in rows if row["kind"] == kind]

    def searching(self, job_id: str, *, episodes: int) -> None:
        """Wait until the search is in the middle: so many episodes are on record and more are to come."""

        def there() -> bool:
            assert self.job(job_id)["state"] not in ENDED, f"it ended before it had {episodes} episodes"
            return len(self.episodes(job_id)) >= episodes

        wait_until(f"{episodes} episodes", there, seconds=JOB_SECONDS)
        assert self.job(job_id)["state"] == "running"


def same_outcome(service: Jobs, job: dict[str, Any], other: dict[str, Any]) -> None:
    """The same episodes and the same file, but for the fingerprint of the spec that stands in it."""
    assert job["state"] == "succeeded", job["error"]

    def played(of: dict[str, Any]) -> list[Any]:
        return [(e["index"], e["actions"], e["rewards"], e["accuracies"]) for e in service.episodes(of["id"])]

    assert played(job) == played(other)
    assert [outcome(c) for c in job["result"]["candidates"]] == [outcome(c) for c in other["result"]["candidates"]]
    assert job["result"]["dense_sha256"] == other["result"]["dense_sha256"]


def outcome(candidate: dict[str, Any]) -> Any:
    told = ("method", "variant", "mask_sha256", "epochs", "accuracy", "select_accuracy", "images_seen")
    return [candidate[name] for name in told]


class RunningService(Jobs):
    def __init__(self, data_dir: Path, **env: str) -> None:
        self.data_dir = data_dir
        self.database_url = settings_in(data_dir, **env).database_url
        self.log = data_dir.with_suffix(".log")
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PURL_")}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services"],
                cwd=ROOT,
                env={**inherited, **QUICK, **env, "PURL_DATA_DIR": str(data_dir)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.sessions: set[int] = set()
        self.scratch: set[str] = set()
        self.url = wait_until("the service is ready", self._ready_url, seconds=START_SECONDS)
        self.http = httpx.Client(base_url=self.url, timeout=CALL_SECONDS, trust_env=False)

    def _ready_url(self) -> str | None:
        said = self.log.read_text()[self._log_start :]
        assert self.process.poll() is None, said
        lines = [line for line in said.splitlines() if line.startswith("ready at ")]
        return lines[0].removeprefix("ready at ").strip() if lines else None

    def job(self, job_id: str) -> dict[str, Any]:
        job = super().job(job_id)
        self.note_attempts()
        return job

    # ---- processes

    @cached_property
    def _database(self) -> Database:
        """Looked into with every question to the service: to open it each time takes longer than all the rest."""
        return Database.open(self.database_url)

    def handles(self) -> list[dict[str, Any]]:
        """Of the attempts that may still have processes."""
        with self._database.read() as session:
            return [handle for handle in session.scalars(select(Attempt.handle)) if handle is not None]

    def attempt_pids(self) -> list[int]:
        """Leaders of the sessions of these attempts."""
        return [handle["pid"] for handle in self.handles()]

    def note_attempts(self) -> None:
        for handle in self.handles():
            # One on a cluster has neither: the cluster's own tests look after it.
            if "pid" in handle:
                self.sessions.add(handle["pid"])
                self.scratch.add(handle["scratch"])

    def child(self, *words: str) -> int | None:
        """The supervisor's own child whose command line has these words."""
        for folder in PROC.iterdir():
            found = _command(folder) if folder.name.isdigit() else None
            if found and found[0] == self.process.pid and all(word in found[1] for word in words):
                return int(folder.name)
        return None

    def left_over(self) -> list[int]:
        """Processes that outlived their attempt, and the service's own."""
        return [pid for sid in {*self.sessions, self.process.pid} for pid in session_members(sid)]

    def scratch_left(self) -> list[str]:
        """Folders that attempts had for their own, Ray's files among them."""
        return [folder for folder in self.scratch if Path(folder).exists()]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.note_attempts()
        self.process.send_signal(number)
        code = self.process.wait(STOP_SECONDS)
        self.http.close()
        self._database.close()
        return code


def _command(folder: Path) -> tuple[int, list[str]] | None:
    try:
        parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        return parent, (folder / "cmdline").read_text().split("\0")
    except (OSError, ValueError):
        return None


def serving(data_dir: Path, **env: str) -> Iterator[RunningService]:
    """For fixtures: the service, ended in order, with nothing left of it."""
    service = RunningService(data_dir, **env)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            began = time.monotonic()
            code = service.stop()
            assert code == 0, f"exit {code} after {time.monotonic() - began:.0f} s\n{service.log.read_text()[-5000:]}"
    assert service.left_over() == []
    assert service.scratch_left() == []
