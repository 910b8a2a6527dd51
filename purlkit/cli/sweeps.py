"""`purl sweep …`: many jobs as one request."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

import typer

from purlkit.cli.options import Options, takes_spec
from purlkit.cli.output import as_json, percent, speaking, table
from purlkit.cli.service import AsJson, Url, client

sweep_app = typer.Typer(help="Many jobs that differ in a few fields.", no_args_is_help=True)

SweepId = Annotated[str, typer.Argument(help="the sweep's id, as `purl sweep list` shows it")]


@sweep_app.command()
@takes_spec
def submit(
    spec: Options,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", help="a field and its values: seed=0,1,2 or seed=[0,1,2]; repeat for more"),
    ] = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Make a job of every combination: purl sweep submit -m digits-resnet -s 0.9 --grid seed=0,1,2"""
    from purlkit.cli.specs import axis

    with speaking(), client(url) as service:
        base = spec.body(service)
        made = service.submit_sweep(
            {"name": base.pop("name", None), "base": base, "grid": dict(axis(one) for one in grid or ())}
        )
        if json:
            as_json(made.record)
        else:
            print(made.id)


@sweep_app.command("list")
def list_sweeps(
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 20, url: Url = None, json: AsJson = False
) -> None:
    """Sweeps, newest first."""
    from itertools import islice

    with speaking(), client(url) as service:
        sweeps = list(islice(service.sweeps(), limit))
        if json:
            as_json([sweep.record for sweep in sweeps])
            return
        rows = [(sweep.id, _counts(sweep.record), sweep.record.name or "") for sweep in sweeps]
        table(("sweep", "jobs", "name"), rows)


@sweep_app.command()
def show(sweep_id: SweepId, url: Url = None, json: AsJson = False) -> None:
    """The table of a sweep, as far as it has come."""
    with speaking(), client(url) as service:
        sweep = service.sweep(sweep_id)
        if json:
            as_json(sweep.record)
            return
        rows = [
            (
                row.job,
                " ".join(f"{name}={_short(value)}" for name, value in row.settings.items()),
                row.state,
                percent(row.progress, 0) if row.state == "running" else "",
                row.result.winner.method if row.result else "",
                percent(row.result.sparsity) if row.result else "",
                percent(row.result.accuracy.fine_tuned) if row.result else row.error.message if row.error else "",
            )
            for row in sweep.table
        ]
        table(("job", "settings", "state", "done", "winner", "sparsity", "accuracy"), rows)


@sweep_app.command()
def cancel(sweep_id: SweepId, url: Url = None, json: AsJson = False) -> None:
    """Stop all of its jobs for good."""
    _move(sweep_id, "cancel", url, json)


@sweep_app.command()
def pause(sweep_id: SweepId, url: Url = None, json: AsJson = False) -> None:
    """Stop all of its jobs for now; their work is saved."""
    _move(sweep_id, "pause", url, json)


@sweep_app.command()
def resume(sweep_id: SweepId, url: Url = None, json: AsJson = False) -> None:
    """Let all of its paused jobs go on."""
    _move(sweep_id, "resume", url, json)


def _move(sweep_id: str, to: str, url: str | None, json: bool) -> None:
    with speaking(), client(url) as service:
        sweep = getattr(service.sweep(sweep_id), to)()
        if json:
            as_json(sweep.record)
        else:
            print(f"{sweep.id} {_counts(sweep.record)}")


def _counts(record: Any) -> str:
    return ", ".join(f"{count} {state}" for state, count in record.jobs.items())


def _short(value: Any) -> str:
    return value if isinstance(value, str) else jsonlib.dumps(value)
