"""The commands of `purl`, each a few lines: ask the service, say what it answered."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from purlkit.cli.options import Options, takes_spec
from purlkit.cli.output import Exit, as_json, percent, show_check, size, speaking, table
from purlkit.cli.service import AsJson, Url, client

app = typer.Typer(
    name="purl",
    help="Prune neural networks by PuRL: submit a job, watch it, download a verified checkpoint.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing help with rich takes longer than all else of it
    epilog="Exit codes: 0 done, 1 job failed, 2 usage, 3 refused, 4 no service answers, 5 not yet, 130 interrupted.",
)
weights_app = typer.Typer(help="Dense weights of your own.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="the job's id, as `purl list` shows it")]


@cache
def purl() -> typer.Typer:
    """All commands, with the groups among them."""
    from purlkit.cli.ablate import ablate
    from purlkit.cli.sweeps import sweep_app

    app.command()(ablate)
    app.add_typer(sweep_app, name="sweep")
    app.add_typer(weights_app, name="weights")
    return app


def main() -> None:
    purl()(prog_name="purl")


@app.command()
@takes_spec
def submit(
    spec: Options,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="watch the job until it has ended")] = False,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Make a job: purl submit --model digits-resnet --sparsity 0.9 --wait"""
    with speaking(), client(url) as service:
        job = service.submit(spec.job(service))
        if wait:
            _watch(job, json=json)
        elif json:
            as_json(job.record)
        else:
            print(job.id)


@app.command()
@takes_spec
def check(spec: Options, url: Url = None, json: AsJson = False) -> None:
    """What a job would be, without making one: layers, reachable sparsity, cost, and what is missing."""
    with speaking(), client(url) as service:
        report = service.check(spec.job(service))
        if json:
            as_json(report)
        else:
            show_check(report)
        if not report["runnable"]:
            raise typer.Exit(Exit.REFUSED)


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="queued, running, paused, succeeded, failed or cancelled")] = None,
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 20,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Jobs, newest first."""
    from itertools import islice

    with speaking(), client(url) as service:
        jobs = list(islice(service.jobs(state=state), limit))
        if json:
            as_json([job.record for job in jobs])
            return
        rows = [
            (
                job.id,
                job.state,
                percent(job.progress.fraction, 0) if job.progress and not job.ended else "",
                str(job.record.asked("model", "name") or ""),
                str(job.record.asked("targets", "sparsity") or ""),
                job.result.winner.method if job.result else "",
                percent(job.result.accuracy.fine_tuned) if job.result else "",
                job.name or "",
            )
            for job in jobs
        ]
        table(("job", "state", "done", "model", "sparsity", "winner", "accuracy", "name"), rows)


@app.command()
def show(job_id: JobId, url: Url = None, json: AsJson = False) -> None:
    """One job: where it is, or what came of it."""
    with speaking(), client(url) as service:
        job = service.job(job_id)
        if json:
            as_json(job.record)
            return
        from purlkit.cli.watch import show_job

        show_job(job)


@app.command()
def watch(job_id: JobId, url: Url = None, json: AsJson = False) -> None:
    """Follow a job live until it has ended, over restarts of the service; with --json one event to a line."""
    with speaking(), client(url) as service:
        _watch(service.job(job_id), json=json)


def _watch(job: Any, *, json: bool) -> None:
    from purlkit.cli.watch import follow

    follow(job, json=json)


@app.command()
def cancel(job_id: JobId, url: Url = None, json: AsJson = False) -> None:
    """Stop a job for good."""
    _move(job_id, "cancel", url, json)


@app.command()
def pause(job_id: JobId, url: Url = None, json: AsJson = False) -> None:
    """Stop a job for now; its work is saved."""
    _move(job_id, "pause", url, json)


@app.command()
def resume(job_id: JobId, url: Url = None, json: AsJson = False) -> None:
    """Let a paused job go on from its saved work."""
    _move(job_id, "resume", url, json)


@app.command()
def retry(job_id: JobId, url: Url = None, json: AsJson = False) -> None:
    """Make a new job like an ended one."""
    _move(job_id, "retry", url, json)


def _move(job_id: str, to: str, url: str | None, json: bool) -> None:
    with speaking(), client(url) as service:
        job = getattr(service.job(job_id), to)()
        if json:
            as_json(job.record)
            return
        asked = f", {job.record.requested} asked for" if job.record.requested else ""
        print(f"{job.id} {job.state}{asked}")


@app.command()
def download(
    job_id: JobId,
    names: Annotated[list[str] | None, typer.Argument(help="which files; all when left out")] = None,
    to: Annotated[Path, typer.Option("--to", "-o", help="the folder")] = Path(),
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Fetch a job's files, each taken up where an earlier try broke and compared with its sha256."""
    with speaking(), client(url) as service:
        from purlkit.cli.watch import bytes_bar

        job = service.job(job_id)
        with bytes_bar(quiet=json) as on_bytes:
            paths = job.download(to, *(names or ()), on_bytes=on_bytes)
        if json:
            as_json([str(path) for path in paths])
            return
        for path in paths:
            print(f"{path}  {size(path.stat().st_size)}, its sha256 matches")


@app.command()
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="stay until the job has ended")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="which one; the latest when left out")] = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """What an attempt has printed so far; with --json an object to a line, {"attempt": 1, "text": …}."""
    with speaking(), client(url) as service:
        from purlkit.cli import logs as printed

        printed.show(service, job_id, attempt, follow=follow, json=json)


@app.command()
def report(
    job_id: JobId,
    to: Annotated[Path, typer.Option("--to", "-o", help="the folder")] = Path(),
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Fetch a job's report: one page that opens from a disk."""
    download(job_id, ["report.html"], to, url, json)


@weights_app.command()
def push(
    file: Annotated[Path, typer.Argument(help="a safetensors file")], url: Url = None, json: AsJson = False
) -> None:
    """Upload a safetensors file; what is printed goes into --weights."""
    with speaking(), client(url) as service:
        from purlkit.cli.watch import bytes_bar
        from purlkit.errors import InvalidSpec

        if not file.is_file():
            raise InvalidSpec(f"{file} is no file", remedy="give the path of a safetensors file")
        with bytes_bar(quiet=json) as on_bytes:
            uploaded = service.upload(file, on_bytes=on_bytes)
        if json:
            as_json(uploaded)
            return
        print(uploaded.sha256)


@weights_app.command("list")
def list_weights(url: Url = None, json: AsJson = False) -> None:
    """What was uploaded and is kept, newest first."""
    with speaking(), client(url) as service:
        kept = sorted(service.weights(), key=lambda one: str(one.created_at), reverse=True)
        if json:
            as_json(kept)
            return
        rows = [(one.sha256, size(one.bytes), str(one.tensors), f"{one.created_at:%Y-%m-%d %H:%M}") for one in kept]
        table(("sha256", "size", "tensors", "uploaded, UTC"), rows)


@weights_app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="a checkpoint that torch.save wrote")],
    target: Annotated[Path, typer.Argument(help="the safetensors file to write")],
    json: AsJson = False,
) -> None:
    """Turn a torch checkpoint into safetensors, here on this machine: the service takes no pickles."""
    with speaking():
        from purlkit.cli import convert as converting

        tensors = converting.convert(source, target)
        if json:
            as_json({"path": str(target), "tensors": tensors})
        else:
            print(f"{target}  {tensors} tensors, {size(target.stat().st_size)}")


@app.command()
def models(url: Url = None, json: AsJson = False) -> None:
    """The networks that the service can prune."""
    _catalog("models", url, json)


@app.command()
def datasets(url: Url = None, json: AsJson = False) -> None:
    """The data that the service can use, and what is missing of the rest."""
    _catalog("datasets", url, json)


def _catalog(of: str, url: str | None, json: bool) -> None:
    with speaking(), client(url) as service:
        entries = service.models() if of == "models" else service.datasets()
        if json:
            as_json(entries)
            return
        rows = [
            (str(e["name"]), "" if e.get("available", True) else "missing", str(e.get("about", ""))) for e in entries
        ]
        table(("name", "", "about"), rows)


@app.command()
def doctor(json: AsJson = False) -> None:
    """What is wrong on this machine (versions, GPU, Ray, settings, database, store, port), and the remedy."""
    with speaking():
        from purlkit.cli import doctor as examining

        found = examining.examine()
        if json:
            as_json(examining.as_dicts(found))
        else:
            for one in found:
                print(f"{examining.MARKS[one.state]} {one.about}: {one.said}")
                if one.remedy:
                    print(f"    {one.remedy}")
        if any(one.state == "fault" for one in found):
            raise typer.Exit(Exit.REFUSED)
