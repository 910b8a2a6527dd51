"""The report as one HTML file: the verdict first, then what it stands on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from purlkit.published import Published
from purlkit.report.charts import by_layer, histograms, learning, over_flops, over_sparsity, percent, title_of
from purlkit.results import Candidate, Episode, Point, Result, WeightsReport
from purlkit.spec import JobSpec

# What a mail still takes. A job of very many layers and targets has the rest in its other files.
MOST_BYTES = 5 * 2**20
MOST_LAYERS_THEN = 50


def render(
    job_id: str,
    spec: JobSpec,
    result: Result,
    episodes: Sequence[Episode],
    weights: WeightsReport | None = None,
    published: Sequence[Published] = (),
) -> str:
    """`weights` are those of the headline's checkpoint."""
    headline = headline_of(result)
    raced = {point.target: [one for one in result.candidates if one.target == point.target] for point in result.points}
    largest = sorted(weights.layers if weights else (), key=lambda layer: -layer.dense.weights)
    spread = [*(weights.layers if weights else ())], largest[:MOST_LAYERS_THEN], largest[:MOST_LAYERS_THEN]
    tables = list(raced), list(raced), [headline.target]
    for layers, targets in zip(spread, tables, strict=True):
        html = _template().render(
            job_id=job_id,
            spec=spec,
            result=result,
            headline=headline,
            raced=raced,
            curves=learning(episodes, round(spec.search.agent.exploration_fraction * spec.search.episodes)),
            over_sparsity=over_sparsity(result.candidates, result.accuracy.dense, published),
            over_flops=over_flops(result.candidates, result.accuracy.dense, published),
            published=published,
            by_layer=by_layer,
            tables=targets,
            weights=layers,
            all_weights=len(largest),
            histograms=histograms,
            settings=_flat(spec.model_dump(mode="json")),
            title_of=title_of,
            ships=lambda one: ships(one, result),
            many=len(result.points) > 1,
        )
        if len(html.encode()) <= MOST_BYTES:
            break
    return html


def headline_of(result: Result) -> Point:
    """The target that the result's headline is about."""
    return next(point for point in result.points if point.checkpoint.name == result.checkpoint.name)


def ships(one: Candidate, result: Result) -> bool:
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
    return environment.from_string((Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8"))
