"""A job as one line of a table. What another version of the program stored otherwise is left blank, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from purlkit.sentence import NAMES

OTHER_TARGETS = {"flops": "the multiply-adds"}


@dataclass(frozen=True, kw_only=True)
class Row:
    id: str
    title: str
    of: str  # what it prunes, or the id where that is the title
    state: str
    requested: str | None
    model: str
    target: str
    labels: tuple[str, ...]
    fraction: float | None  # of a job that runs
    doing: str  # why it waits, what it is at, or what came of it
    accuracy: float | None
    sparsity: float | None
    created_at: str
    cpus: float
    gpus: float


def rows(views: Iterable[bytes]) -> list[Row]:
    return [row(json.loads(view)) for view in views]


def row(job: dict[str, Any]) -> Row:
    model, target = str(dig(job, "spec", "model", "name") or ""), target_of(dig(job, "spec", "targets"))
    result = dig(job, "result")
    labels = dig(job, "spec", "labels")
    runners = dig(job, "spec", "resources", "env_runners") or 1
    return Row(
        id=job["id"],
        title=title_of(job),
        of=" at ".join(filter(None, (model, target))) if job["name"] else job["id"],
        state=job["state"],
        requested=job["requested"],
        model=model,
        target=target,
        labels=tuple(f"{key}: {value}" for key, value in labels.items()) if isinstance(labels, dict) else (),
        fraction=number(dig(job, "progress", "fraction")) if job["state"] == "running" else None,
        doing=_doing(job),
        accuracy=number(dig(result, "accuracy", "fine_tuned")),
        sparsity=number(dig(result, "sparsity")),
        created_at=job["created_at"],
        cpus=runners * (number(dig(job, "spec", "resources", "cpus_per_runner")) or 0.0),
        gpus=runners * (number(dig(job, "spec", "resources", "gpus_per_runner")) or 0.0),
    )


def title_of(job: dict[str, Any]) -> str:
    if job["name"]:
        return str(job["name"])
    model = dig(job, "spec", "model", "name") or job["id"]
    target = target_of(dig(job, "spec", "targets"))
    return f"{model} at {target}" if target else str(model)


def target_of(targets: Any) -> str:
    """What is to be removed: the share of weights, or of whatever else the targets name first."""
    if not isinstance(targets, dict):
        return ""
    for name, given in targets.items():
        values = given if isinstance(given, list) else [given]
        if name not in ("accuracy", "max_drop") and values and all(number(value) is not None for value in values):
            said = ", ".join(f"{100 * value:.4g} %" for value in values)
            return said if name == "sparsity" else f"{said} of {OTHER_TARGETS.get(name, name)}"
    return ""


def dig(record: Any, *path: str) -> Any:
    """What lies at that path, or None."""
    for key in path:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _doing(job: dict[str, Any]) -> str:
    if job["pending_reason"]:
        return str(job["pending_reason"])
    if job["state"] == "running":
        episode, episodes = dig(job, "progress", "episode"), dig(job, "progress", "episodes")
        counted = f", episode {episode} of {episodes}" if episode is not None and job["phase"] == "search" else ""
        return f"{job['phase'] or 'starting'}{counted}"
    if job["error"]:
        return str(dig(job, "error", "message") or dig(job, "error", "code") or "")
    method = dig(job, "result", "winner", "method")
    return f"{NAMES.get(method, method)} ships" if isinstance(method, str) else ""
