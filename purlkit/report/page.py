"""The report as one HTML file: the verdict first, then what it stands on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from purlkit.report.charts import Published, learning, pareto, percent, title_of
from purlkit.results import Candidate, Episode, Result
from purlkit.spec import JobSpec


def render(
    job_id: str, spec: JobSpec, result: Result, episodes: Sequence[Episode], published: Sequence[Published] = ()
) -> str:
    search = spec.search
    return _template().render(
        job_id=job_id,
        spec=spec,
        result=result,
        winner=next(one for one in result.candidates if _ships(one, result) and one.sparsity == result.sparsity),
        curves=learning(episodes, round(search.agent.exploration_fraction * search.episodes)),
        pareto=pareto(result.candidates, result.accuracy.dense, published),
        published=published,
        settings=_flat(spec.model_dump(mode="json")),
        title_of=title_of,
        ships=lambda one: _ships(one, result),
        many=len(result.points) > 1,
    )


def _ships(one: Candidate, result: Result) -> bool:
    """Whether it is the winner of its own target."""
    point = next(point for point in result.points if point.target == one.target)
    return (one.method, one.variant) == (point.winner.method, point.winner.variant)


def _flat(told: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Every setting by its path in the spec."""
    rows: list[tuple[str, str]] = []
    for name, value in told.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{before}{name}.")
        else:
            rows.append((before + name, json.dumps(value, ensure_ascii=False)))
    return rows


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = percent
    return environment.from_string((Path(__file__).parent / "report.html.j2").read_text())
