"""`purl ablate`: the paper's table of design choices, run here and printed beside what the paper reports."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from purlkit.cli.options import Options, takes_spec
from purlkit.cli.output import as_json, speaking, table
from purlkit.cli.service import AsJson, Url, client

ROWS = (
    "sparse-rewards",
    "dense-rewards",
    "magnitude-target",
    "reward-2",
    "reward-3",
    "step-0.2",
    "state-2n",
)
PAPERS_RUN = "purl-resnet50-cifar10-"
# What the paper aims at; every network of a job is fine-tuned to the end, so that each row has its number.
DEFAULTS: dict[str, Any] = {
    "model": {"name": "digits-resnet"},
    "targets": {"sparsity": 0.6, "accuracy": 0.95},
    "baselines": ["global"],
    "race": {"early_stop": False, "seeds": 1},
}
NAIVE = "global magnitude, no search"
POLL_SECONDS = 2.0


@takes_spec
def ablate(
    spec: Options,
    seeds: Annotated[int, typer.Option(min=1, max=36, help="jobs for each row, one seed each")] = 3,
    of: Annotated[str | None, typer.Option("--of", help="print the table of this sweep; make none")] = None,
    wait: Annotated[bool, typer.Option(help="until all jobs have ended; else print what there is")] = True,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """The paper's ablation, seven rows of several seeds, on a network of yours: purl ablate -m digits-resnet"""
    with speaking(), client(url) as service:
        sweep = service.sweep(of) if of else service.submit_sweep(sweep_of(spec, service, seeds))
        if not of:
            print(f"{sweep.id}  (purl ablate --of {sweep.id} prints its table at any time)", file=sys.stderr)
        while wait and not sweep.ended:
            _wait(sweep)
        rows = summary(sweep.table)
        if json:
            as_json({"sweep": sweep.id, "ended": sweep.ended, "rows": [vars(row) for row in rows]})
        else:
            show(sweep.record, rows)


def sweep_of(spec: Options, service: Any, seeds: int) -> dict[str, Any]:
    from purlkit.recipes import recipe

    given = spec.given
    if given["file"] is None and given["model"] is None:
        given["model"] = DEFAULTS["model"]["name"]
    base = spec.body(service)
    base = {**DEFAULTS, **base, "targets": {**DEFAULTS["targets"], **base.get("targets", {})}}
    first, name, common = base.pop("seed", 0), base.pop("name", "ablation"), base.pop("search", {})
    rows = {}
    for row in ROWS:
        published = recipe(PAPERS_RUN + row)
        own = published.spec.search.model_dump(mode="json", exclude_defaults=True)
        rows[published.published[0].detail] = {**common, **own}
    return {"name": name, "base": base, "grid": {"search": rows, "seed": list(range(first, first + seeds))}}


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error, none for one seed; in percent."""

    mean: float
    error: float | None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.error is None else f"{self.mean:.1f} ± {self.error:.1f}"


def estimate(values: Sequence[float]) -> Estimate | None:
    if not values:
        return None
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Estimate(100 * mean, None)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Estimate(100 * mean, 100 * math.sqrt(variance / len(values)))


@dataclass(frozen=True)
class Row:
    """One row of the table: PuRL's trained policy (its mean), over the seeds that are done."""

    name: str
    done: int
    of: int
    sparsity: Estimate | None
    pruned: Estimate | None  # before fine-tuning, select split
    accuracy: Estimate | None  # after fine-tuning, test split
    failed: int = 0


def summary(jobs: Iterable[Any]) -> list[Row]:
    """In the sweep's order; the naive row is over all jobs, whose searches it has nothing to do with."""
    by_row: dict[str, list[Any]] = {}
    every = list(jobs)
    for job in every:
        by_row.setdefault(str(job.settings.get("search")), []).append(job)
    rows = [_row(name, members, "purl", "mean") for name, members in by_row.items()]
    seeds = {job.settings.get("seed"): job for job in every if job.result}
    naive = _row(NAIVE, list(seeds.values()), "global", None)
    return [*rows, naive] if naive.accuracy else rows


def _row(name: str, jobs: Sequence[Any], method: str, variant: str | None) -> Row:
    found = [
        one
        for job in jobs
        if job.result
        for one in job.result.candidates
        if (one.method, one.variant) == (method, variant)
    ]
    return Row(
        name=name,
        done=len(found),
        of=len(jobs),
        sparsity=estimate([one.sparsity for one in found]),
        pruned=estimate([one.accuracy_pruned for one in found]),
        accuracy=estimate([one.accuracy for one in found]),
        failed=sum(job.state in ("failed", "cancelled") for job in jobs),
    )


def show(record: Any, rows: Sequence[Row]) -> None:
    from purlkit.published import PUBLISHED

    paper = {row.detail: row for row in PUBLISHED if row.recipe.startswith(PAPERS_RUN)}
    lines = []
    for row in rows:
        seeds = f"{row.done} of {row.of}" + (f", {row.failed} failed" if row.failed else "")
        said = paper.get(row.name)
        theirs = (
            (f"{said.sparsity} ± {said.sparsity_spread}", f"{said.accuracy} ± {said.accuracy_spread}")
            if said
            else ("", "")
        )
        ours = (_or_nothing(row.sparsity), _or_nothing(row.pruned), _or_nothing(row.accuracy))
        lines.append((row.name, seeds, *ours, *theirs))
    base = record.spec["base"]
    targets = base["targets"]
    print(f"{base['model']['name']}, targets {targets}; percent, mean ± standard error over seeds")
    head = ("row", "seeds", "sparsity", "before fine-tuning", "after", "paper: sparsity", "paper: accuracy")
    table(head, lines)
    print(
        "Ours: the trained policy's mean; before fine-tuning on the select split, after it on the test split.\n"
        "The paper: ResNet-50 on CIFAR-10, its own spread. Other data: compare the order of the rows."
    )


def _or_nothing(value: Estimate | None) -> str:
    return "" if value is None else str(value)


def _wait(sweep: Any) -> None:
    """One more look, and a line where somebody watches."""
    import time

    time.sleep(POLL_SECONDS)
    sweep.refresh()
    if sys.stderr.isatty():
        counts = ", ".join(f"{count} {state}" for state, count in sweep.record.jobs.items())
        print(f"\r\033[K{counts}", end="\n" if sweep.ended else "", file=sys.stderr, flush=True)
