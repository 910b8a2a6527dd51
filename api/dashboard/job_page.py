"""All that the page of one job shows, gathered from its rows: each part as soon as there is something to show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.dashboard import charts, history
from api.dashboard.charts import Walk
from api.dashboard.rows import title_of
from api.deps import Parts
from api.represent import artifact_view
from purlkit.report.svg import Plot
from purlkit.results import WEIGHTS, ErrorReport, Phase, Progress, Result
from purlkit.spec import JobSpec, Record
from services import artifacts, jobs
from services.tables import Job

Known = TypeVar("Known", bound=Record)

UNITS = {"std": "in standard deviations", "magnitude_target": "as a share of the layer"}


def of(parts: Parts, job_id: str) -> dict[str, Any]:
    """The template's values."""
    with parts.db.read() as session:
        # The events first: what is added while we read comes again by the stream.
        seq = history.last_seq(session, job_id)
        job = json.loads(parts.jobs_json.one(session, job_id))
        row = jobs.get(session, job_id)
        files = [artifact_view(artifact) for artifact in artifacts.list_published(session, job_id)]
        return {
            "job": job,
            "title": title_of(job),
            "seq": seq,
            "ended": job["state"] in ("succeeded", "failed", "cancelled"),
            "progress": _read(Progress, row.progress),
            "error": _read(ErrorReport, row.error),
            "phases": _phases(job),
            "moves": _moves(job),
            "happenings": history.latest(session, job_id),
            "files": files,
            "has_weights": any(file.name == WEIGHTS for file in files),
            "settings": flat(job["spec"]),
            **_search(session, row),
            **_race(session, job_id),
            **_outcome(row),
        }


def spec_of(row: Job) -> JobSpec | None:
    return _read(JobSpec, row.spec)


def result_of(row: Job) -> Result | None:
    return _read(Result, row.result)


def _read(record: type[Known], stored: dict[str, Any] | None) -> Known | None:
    """None where there is none, or another version of the program stored it."""
    try:
        return None if stored is None else record.model_validate(stored, strict=False)
    except ValidationError:
        return None


def flat(told: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Every setting by its path in the spec."""
    found: list[tuple[str, str]] = []
    for name, value in told.items():
        if isinstance(value, dict) and value:
            found += flat(value, f"{before}{name}.")
        else:
            found.append((before + name, json.dumps(value, ensure_ascii=False)))
    return found


def _phases(job: dict[str, Any]) -> list[tuple[str, str]]:
    """Each phase, and whether it is done, current or ahead."""
    names = [phase.value for phase in Phase]
    if job["state"] == "succeeded":
        return [(name, "done") for name in names]
    now = names.index(job["phase"]) if job["phase"] in names else -1
    current = "current" if job["state"] == "running" else "stopped"
    return [(name, "done" if nth < now else current if nth == now else "ahead") for nth, name in enumerate(names)]


def _moves(job: dict[str, Any]) -> list[tuple[str, str]]:
    """What may be asked of it now, with the question that is put before it is done."""
    state, requested = job["state"], job["requested"]
    found: list[tuple[str, str]] = []
    if state in ("queued", "running") and requested is None:
        found.append(("pause", ""))
    if state == "paused" or requested == "pause":
        found.append(("resume", ""))
    if state in ("queued", "running", "paused") and requested != "cancel":
        found.append(("cancel", "Cancel this job for good? What it has found so far can't be gone on with."))
    if state in ("succeeded", "failed", "cancelled"):
        found.append(("retry", ""))
    return found


def _search(session: Session, row: Job) -> dict[str, Any]:
    spec = spec_of(row)
    if spec is None:
        return {"curves": [], "policy": None}
    search = history.walks(session, row.id)
    greedy = history.walks(session, row.id, "greedy")
    return {"curves": charts.learning(search, spec), "policy": _policy(spec, search, greedy)}


def _policy(spec: JobSpec, search: Sequence[Walk], greedy: Sequence[Walk]) -> Plot | None:
    """What the walks chose. With several searches in a job, the last one that has begun."""
    alphas, each = spec.search.alphas, spec.search.episodes
    latest = search[-1].index // each if search else 0
    ours = [walk for walk in search if walk.index // each == latest]
    final = [walk for walk in greedy if walk.index // spec.search.greedy_episodes == latest]

    def cuts(walk: Walk) -> list[float]:
        return [alphas[action] for action in walk.actions if action < len(alphas)]

    series: dict[str, Sequence[float]] = {}
    if final:
        rows = [cuts(walk) for walk in final]
        shortest = min(map(len, rows))
        series["mean of the trained policy"] = [sum(row[n] for row in rows) / len(rows) for n in range(shortest)]
    if ours:
        best = max(ours, key=lambda walk: walk.earned)
        series[f"best episode, {best.index + 1}"] = cuts(best)
        if not final:
            series[f"latest episode, {ours[-1].index + 1}"] = cuts(ours[-1])
    return charts.policy(series, UNITS.get(spec.search.criterion, ""))


def _race(session: Session, job_id: str) -> dict[str, Any]:
    rungs = history.rungs(session, job_id)
    races = [(target, list(held)) for target, held in groupby(rungs, key=lambda rung: rung.target)]
    return {"races": [(target, charts.racing(history.racing(held)), held[-1]) for target, held in races]}


def _outcome(row: Job) -> dict[str, Any]:
    result, spec = result_of(row), spec_of(row)
    if result is None or spec is None or not result.candidates:
        return {"result": None, "front": None, "layers": []}
    points = [point.target for point in result.points]
    raced = [(target, [one for one in result.candidates if one.target == target]) for target in points]
    return {
        "result": result,
        "front": charts.front(result, spec),
        "layers": [(target, charts.by_layer(held), held) for target, held in raced if held],
    }
