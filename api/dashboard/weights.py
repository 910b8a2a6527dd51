"""How the winner's weights are spread, layer by layer: before pruning, after it, and after fine-tuning."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from api.dashboard.rows import title_of
from api.deps import Parts
from purlkit.report.charts import histogram
from purlkit.report.svg import Plot
from purlkit.results import WEIGHTS, LayerWeights, WeightsReport
from services import artifacts
from services.errors import NotFound

LAYERS_ON_A_PAGE = 20

STAGES = (("dense", "before pruning"), ("pruned", "pruned"), ("fine_tuned", "fine-tuned"))


def of(parts: Parts, job_id: str, target: float | None, first: int) -> dict[str, Any]:
    """The template's values; NotFound where there are no such weights."""
    stem = WEIGHTS.partition(".")[0]
    with parts.db.read() as session:
        job = json.loads(parts.jobs_json.one(session, job_id))
        published = artifacts.list_published(session, job_id)
    held = [one for one in published if one.name.startswith(stem) and one.media_type == "application/json"]
    targets = {_target(one.name): one for one in held}
    if not targets:
        raise NotFound("artifact")
    chosen = targets.get(target) or held[0]
    with parts.store.open(chosen.sha256) as file:
        try:
            report = WeightsReport.model_validate_json(file.read())
        except ValidationError:
            raise NotFound("artifact") from None
    return {
        "job": job,
        "title": title_of(job),
        "file": chosen.name,
        "targets": [known for known in targets if known is not None],
        "target": _target(chosen.name),
        "layers": [(layer, _plots(layer)) for layer in report.layers[first : first + LAYERS_ON_A_PAGE]],
        "first": first,
        "count": len(report.layers),
        "step": LAYERS_ON_A_PAGE,
    }


def _target(name: str) -> float | None:
    """Of `weights-0.9.json`; None of the only one."""
    said = name.removesuffix(".json").partition("-")[2]
    return float(said) if said else None


def _plots(layer: LayerWeights) -> list[tuple[str, Plot, int]]:
    edges = (layer.low, layer.high if layer.high > layer.low else layer.low + 1.0)
    spreads = [(says, getattr(layer, stage)) for stage, says in STAGES]
    return [(says, histogram(edges, one.counts, f"{layer.name}, {says}"), one.weights) for says, one in spreads]
