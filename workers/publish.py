"""What leaves the house: the files of a job, each written by one function, and the last word that names them."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow
from pyarrow import parquet

from purlkit import published
from purlkit.front import front
from purlkit.report.page import headline_of, render
from purlkit.results import (
    EPISODES,
    POLICY,
    REPORT,
    RESULT,
    WEIGHTS,
    Episode,
    Finish,
    Front,
    Headline,
    Outcome,
    Point,
    Result,
    WeightsReport,
    of_target,
)
from purlkit.training.data import Samples
from workers import files
from workers.attempt import Attempt
from workers.dense import Dense
from workers.outcome import Checked

PACKAGES = ("purlkit", "torch", "torchvision", "ray", "numpy")
JSON, PARQUET, BYTES = "application/json", "application/vnd.apache.parquet", "application/octet-stream"
HTML = "text/html"  # which charset, the page says itself


def result_of(
    job: Attempt,
    dense: Dense,
    checked: Sequence[Checked],
    *,
    splits: dict[str, int],
    episodes: Sequence[Episode],
    search_seconds: float,
    search_images: int,
) -> Result:
    points = tuple(each.point for each in checked)
    by_sparsity = front([(point.sparsity, point.accuracy.fine_tuned) for point in points])
    by_flops = front(
        [(point.flops.flops_pruned if point.flops else 0.0, point.accuracy.fine_tuned) for point in points]
    )
    met = [point.target for point in points if point.targets_met]
    return Result(
        **{name: getattr(headline(points), name) for name in Headline.model_fields},
        points=points,
        front=Front(
            sparsity=tuple(points[index].target for index in by_sparsity),
            flops=tuple(points[index].target for index in by_flops),
        ),
        met_up_to=max(met, default=None),
        prunable_weights=sum(layer.weight.numel() for layer in dense.layers),
        candidates=tuple(candidate for each in checked for candidate in each.candidates),
        dense_sha256=dense.sha256,
        splits=splits,
        seed=job.spec.seed,
        versions={"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        search_seconds=search_seconds,
        search_images=search_images,
        search_steps=sum(len(episode.actions) for episode in episodes),
        search_steps_computed=sum(episode.steps_computed for episode in episodes),
    )


def headline(points: Sequence[Point]) -> Point:
    """The highest target that meets all that was asked for, else the lowest."""
    met = [point for point in points if point.targets_met]
    return met[-1] if met else points[0]


def _write_policy(path: Path, checked: Checked) -> None:
    layers = {
        "-".join(filter(None, (candidate.method, candidate.variant))): [
            layer.model_dump(mode="json") for layer in candidate.layers
        ]
        for candidate in checked.candidates
    }
    path.write_text(json.dumps({"alphas": checked.alphas, "layers": layers}, indent=1))


@dataclass(frozen=True)
class Whole:
    """What the files of the whole job are made of."""

    job: Attempt
    result: Result
    episodes: Sequence[Episode]


def _write_result(path: Path, whole: Whole) -> None:
    path.write_text(whole.result.model_dump_json(indent=1))


def _write_episodes(path: Path, whole: Whole) -> None:
    parquet.write_table(pyarrow.Table.from_pylist([episode.model_dump() for episode in whole.episodes]), path)


def _write_report(path: Path, whole: Whole) -> None:
    """After the files of each target: the weights of the headline's are read from there."""
    job, result = whole.job, whole.result
    name = of_target(WEIGHTS, headline_of(result).target, len(result.points))
    weights = WeightsReport.model_validate_json((job.scratch / name).read_bytes())
    theirs = published.find(model=job.spec.model.name, data=job.spec.data.name)
    html = render(job.brief.job_id, job.spec, result, whole.episodes, weights, theirs)
    path.write_text(html, encoding="utf-8")


# A file more is a line more: for each target, written beside its checkpoint, and for the whole job.
OF_EACH_TARGET: Sequence[tuple[str, str, Callable[[Path, Checked], None]]] = ((POLICY, JSON, _write_policy),)
OF_THE_JOB: Sequence[tuple[str, str, Callable[[Path, Whole], None]]] = (
    (EPISODES, PARQUET, _write_episodes),
    (RESULT, JSON, _write_result),
    (REPORT, HTML, _write_report),
)


def publish(
    job: Attempt, dense: Dense, test: Samples, result: Result, checked: Sequence[Checked], episodes: Sequence[Episode]
) -> Finish:
    """Send the files; the service shows them when it accepts the finish that names them."""
    for candidate in result.candidates:
        job.link.event("candidate", candidate.model_dump(mode="json"))
    leaving: list[tuple[Path, str]] = []
    for each in checked:
        leaving.append((each.path, BYTES))
        leaving += files.of(job, dense, each, test)
        for name, media_type, write in OF_EACH_TARGET:
            path = job.scratch / of_target(name, each.point.target, len(checked))
            write(path, each)
            leaving.append((path, media_type))
    for name, media_type, write_whole in OF_THE_JOB:
        path = job.scratch / name
        write_whole(path, Whole(job, result, episodes))
        leaving.append((path, media_type))
    for path, media_type in leaving:
        job.link.put_artifact(path.name, path, media_type)
    return Finish(outcome=Outcome.SUCCEEDED, result=result, artifacts=tuple(path.name for path, _ in leaving))
