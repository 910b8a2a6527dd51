"""One example of everything that the API takes or answers, made of the records themselves, so that each is valid."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from api.codes import CODES
from api.errors import FieldError, Problem, ProblemDocument
from purlkit.recipes import recipe
from purlkit.results import (
    AttemptBrief,
    CheckAnswer,
    CheckBrief,
    CheckReport,
    Episode,
    Finish,
    Heartbeat,
    HeartbeatAnswer,
    Layer,
    LayerReport,
    Outcome,
    Phase,
    Progress,
    SavedWork,
    Sight,
    WorkerEvent,
    WorkerEvents,
)
from purlkit.spec import JobSpec

LEAST_BODY = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}
SWEEP_BODY = {
    "name": "rewards",
    "base": LEAST_BODY,
    "grid": {"search.reward": ["capped", "upside"], "seed": [0, 1]},
}
LOG = "2026-11-21 08:00:00,000 purl.attempt INFO phase: search\n"

_JOB, _ATTEMPT = "job_0rx7t2d6cwyqvf06dff6meb3z5", "att_0rx7t2ed0cbyq1w8cf5qg7ahkj"
_SWEEP = "swp_0rx7t2d6cwyqvf06dff6meb3z5"
_SHA256 = "b1dc1a1f4e68ac9fd93c25c9a5dbe840bfe4dc535b65018b7fa7a66eb0aa91f3"
_AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
_LAYER = LayerReport(name="stem", kind="Conv2d", shape=(16, 1, 3, 3), weights=144, kept=57, sparsity=0.604, alpha=0.8)
_EPISODE = Episode(
    index=19,
    kind="search",
    actions=(4, 6),
    rewards=(-0.31, -0.22),
    accuracies=(0.97, 0.94),
    sparsities=(0.12, 0.743),
    seconds=2.4,
    runner=1,
    weights_version=17,
)
_PROGRESS = Progress(fraction=0.38, phase=Phase.SEARCH, episode=20, episodes=55, eta_seconds=36.0)
_CHECK = CheckReport(
    runnable=True,
    layers=(Layer(name="stem", kind="Conv2d", shape=(16, 1, 3, 3), weights=144),),
    prunable_weights=77_072,
    sparsity_range=(0.0, 0.999),
    steps=550,
    memory_bytes=10**7,
)
_LINKS = {name: f"/jobs/{_JOB}/{name}" for name in ("events", "episodes", "artifacts")}


def of_records() -> dict[str, Any]:
    """By the name of the record; what is a list of records is made of these."""
    spec = JobSpec.model_validate(LEAST_BODY).resolve()
    made = {**_of_jobs(spec), **_of_results(), **_of_the_catalog(), **_of_workers(spec)}
    return {name: _plain(example) for name, example in made.items()}


def _of_jobs(spec: JobSpec) -> dict[str, Any]:
    attempt = {
        "number": 1,
        "state": "running",
        "started_at": _AT,
        "ended_at": None,
        "reason": None,
        "cause": None,
        "log": f"/jobs/{_JOB}/attempts/1/log",
    }
    job = {
        "id": _JOB,
        "name": None,
        "parent": None,
        "sweep": None,
        "state": "running",
        "requested": None,
        "phase": "search",
        "pending_reason": None,
        "queue_position": None,
        "spec": spec,
        "fingerprint": spec.fingerprint,
        "progress": _PROGRESS,
        "attempts": [attempt],
        "result": None,
        "error": None,
        "created_at": _AT,
        "started_at": _AT,
        "finished_at": None,
        "last_heartbeat_at": _AT,
        "links": {"self": f"/jobs/{_JOB}", **_LINKS, "layers": None, "checkpoint": None, "report": None},
    }
    sweep = {
        "id": _SWEEP,
        "name": "rewards",
        "jobs": {"queued": 3, "running": 1},
        "ended": False,
        "created_at": _AT,
        "links": {"self": f"/sweeps/{_SWEEP}", "jobs": f"/jobs?sweep={_SWEEP}"},
    }
    row = {"job": _JOB, "state": "running", "progress": 0.38, "result": None, "error": None}
    row["settings"] = {"search.reward": "capped", "seed": 0}
    return {
        "JobSpec": LEAST_BODY,
        "SweepSpec": SWEEP_BODY,
        "SweepSummary": sweep,
        "SweepView": {**sweep, "spec": SWEEP_BODY, "table": [row]},
        "JobView": job,
        "CheckView": {**dict(_CHECK), "spec": spec, "fingerprint": spec.fingerprint},
        "EventView": {"seq": 7, "type": "episode", "at": _AT, "attempt": _ATTEMPT, "data": _EPISODE},
        "EpisodeView": {**dict(_EPISODE), "attempt": 1},
    }


def _of_results() -> dict[str, Any]:
    return {
        "CandidateLayers": {
            "method": "global",
            "variant": None,
            "target": 0.9,
            "winner": True,
            "sparsity": 0.9,
            "layers": [_LAYER],
        },
        "ArtifactView": {
            "name": "pruned.safetensors",
            "sha256": _SHA256,
            "bytes": 318_832,
            "media_type": "application/octet-stream",
            "created_at": _AT,
            "href": f"/jobs/{_JOB}/artifacts/pruned.safetensors",
        },
        "UploadView": {"sha256": _SHA256, "bytes": 318_832, "tensors": 62},
        "UploadedView": {"sha256": _SHA256, "bytes": 318_832, "tensors": 62, "created_at": _AT},
    }


def _of_the_catalog() -> dict[str, Any]:
    run = recipe("global-mp-resnet50-80")
    return {
        "ModelView": {
            "name": "digits-resnet",
            "about": "a small residual net",
            "provider": "purlkit",
            "dataset": "digits",
            "pretrained": False,
            "options": {"width": {"default": 16, "low": 1, "high": 512, "about": "channels of the first stage"}},
            "available": True,
            "reason": None,
        },
        "DatasetView": {
            "name": "digits",
            "about": "handwritten digits",
            "provider": "purlkit",
            "shape": [1, 8, 8],
            "classes": 10,
            "options": {},
            "available": True,
            "reason": None,
        },
        "RecipeView": {**dict(run), "published": run.published},
        "AlgorithmView": {"name": "purl", "about": "PuRL", "role": "search"},
        "Health": {"status": "ok"},
    }


def _of_workers(spec: JobSpec) -> dict[str, Any]:
    brief = AttemptBrief(
        id=_ATTEMPT,
        job_id=_JOB,
        number=2,
        spec=spec,
        saved={"search": SavedWork(sha256=_SHA256, bytes=40_000, href=f"/attempts/{_ATTEMPT}/saved/search")},
        weights_href=None,
        lease_seconds=60.0,
        heartbeat_seconds=10.0,
    )
    return {
        "AttemptBrief": brief,
        "CheckBrief": CheckBrief(spec=spec, weights_href=None),
        "CheckAnswer": CheckAnswer(**dict(_CHECK), datasets=(Sight(name="digits"), Sight(name="har", reason="…"))),
        "Heartbeat": Heartbeat(phase=Phase.SEARCH, counter=1200, progress=_PROGRESS),
        "HeartbeatAnswer": HeartbeatAnswer(lease_seconds=60.0, command="continue"),
        "WorkerEvents": WorkerEvents(
            first_seq=0, events=(WorkerEvent(type="episode", data=_EPISODE.model_dump(mode="json")),)
        ),
        "Finish": Finish(outcome=Outcome.DRAINED, artifacts=("attempt.log",)),
        "FinishView": {"job_state": "queued"},
        "StoredView": {"sha256": _SHA256, "bytes": 40_000},
        "LogView": {"bytes": 4096},
    }


def of_problem(code: str) -> dict[str, Any]:
    status, when = CODES[code]
    errors = [FieldError(pointer="/targets/sparsity", message=when)] if status == 422 else []
    problem: ProblemDocument = Problem(status, code, when, errors=errors).document()
    return problem.model_dump(exclude_none=True)


def _plain(example: Any) -> Any:
    """As JSON has it. A record's fields at their defaults are said as well."""
    return to_jsonable_python(example.model_dump(mode="json") if isinstance(example, BaseModel) else example)
