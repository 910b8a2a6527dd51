"""Two to five jobs side by side: what came of them, their curves on the same axes, and the settings that differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from api.dashboard import charts, history
from api.dashboard.job_page import flat, result_of
from api.dashboard.rows import Row, number, row
from api.deps import Parts
from purlkit.report.charts import percent
from purlkit.results import Result
from purlkit.sentence import NAMES
from services import jobs
from services.states import ENDED

FEWEST, MOST = 2, 5

# How a job is handled, not what it computes.
_UNCOMPARED = ("name", "labels")


def of(parts: Parts, job_ids: Sequence[str]) -> dict[str, Any]:
    """The template's values. NotFound if one of the jobs is gone."""
    with parts.db.read() as session:
        views = [json.loads(parts.jobs_json.one(session, job_id)) for job_id in job_ids]
        rows = [row(view) for view in views]
        results = [result_of(jobs.get(session, job_id)) for job_id in job_ids]
        settings = [dict(flat(view["spec"])) for view in views]
        return {
            "rows": rows,
            "ended": all(one.state in ENDED for one in rows),
            "facts": _facts(rows, results),
            "verdicts": [result.verdict if result else None for result in results],
            "curves": _curves(session, rows),
            "settings": _differing(settings),
        }


def _facts(rows: Sequence[Row], results: Sequence[Result | None]) -> list[tuple[str, list[str]]]:
    """A line for each thing worth comparing, a cell for each job."""

    def cells(*values: str | None) -> list[str]:
        return ["–" if value is None else value for value in values]

    def share(value: float | None) -> str | None:
        return None if value is None else percent(value)

    return [
        ("model", cells(*(one.model for one in rows))),
        ("target", cells(*(one.target for one in rows))),
        ("state", cells(*(one.state for one in rows))),
        ("winner", cells(*(NAMES.get(r.winner.method, r.winner.method) if r else None for r in results))),
        ("sparsity", cells(*(share(r.sparsity) if r else None for r in results))),
        ("accuracy, dense", cells(*(share(r.accuracy.dense) if r else None for r in results))),
        ("accuracy, pruned", cells(*(share(r.accuracy.pruned) if r else None for r in results))),
        ("accuracy, fine-tuned", cells(*(share(r.accuracy.fine_tuned) if r else None for r in results))),
        ("multiply-adds removed", cells(*(share(r.flops.flops_pruned) if r and r.flops else None for r in results))),
        ("targets met", cells(*(("yes" if r.targets_met else "no") if r else None for r in results))),
        ("images of the search", cells(*(f"{r.search_images:,}" if r else None for r in results))),
        ("seconds of the search", cells(*(f"{r.search_seconds:,.1f}" if r else None for r in results))),
    ]


def _curves(session: Session, rows: Sequence[Row]) -> list[Any]:
    walks = {f"{nth}. {one.title}": history.walks(session, one.id) for nth, one in enumerate(rows, start=1)}
    drawn = [
        charts.overlaid(
            {name: [(walk.index + 1.0, walk.accuracy) for walk in held] for name, held in walks.items() if held},
            "Accuracy after every episode, each job's curve",
            "accuracy",
        ),
        charts.overlaid(
            {name: [(walk.index + 1.0, walk.earned) for walk in held] for name, held in walks.items() if held},
            "Return of every episode, each job's curve",
            "return",
        ),
    ]
    return [plot for plot in drawn if plot is not None]


def _differing(settings: Sequence[dict[str, str]]) -> list[tuple[str, list[str]]]:
    names = dict.fromkeys(name for each in settings for name in each if not name.startswith(_UNCOMPARED))
    table = [(name, [each.get(name, "–") for each in settings]) for name in names]
    return [(name, said) for name, said in table if len({_same(value) for value in said}) > 1]


def _same(said: str) -> object:
    """0.9 and 0.90, 1 and 1.0 are no difference."""
    try:
        value = number(json.loads(said))
    except ValueError:
        return said
    return said if value is None else value
