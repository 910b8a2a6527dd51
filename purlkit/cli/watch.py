"""A job on a terminal: drawn over and over where there is one, a line now and then where there is none."""

from __future__ import annotations

import json as jsonlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from purlkit.cli.output import escaped, facts, percent, printable, size, table
from purlkit.client import Event, Job
from purlkit.client.calls import verdict_on
from purlkit.client.files import OnBytes

BARS = "▁▂▃▄▅▆▇█"
EVERY = 5  # episodes to a line, where nothing can be drawn over
LOOK_SECONDS = 1.0  # between two questions how long it will take


def follow(job: Job, *, json: bool) -> None:
    """Until the job has ended; raises if it did not succeed."""
    if json:
        for event in job.events():
            print(jsonlib.dumps(event.model_dump(mode="json")), flush=True)
    elif sys.stdout.isatty():
        _draw(job)
    else:
        _tell(job)
    job.refresh()
    if not json:
        show_job(job)
    verdict_on(job.record)


def show_job(job: Job) -> None:
    record = job.record
    progress = record.progress if not record.ended else None
    facts(
        [
            ("job", record.id),
            ("name", record.name),
            ("state", record.state + (f", {record.requested} asked for" if record.requested else "")),
            ("waits", record.pending_reason),
            ("queue position", None if record.queue_position is None else str(record.queue_position)),
            ("progress", f"{percent(progress.fraction, 0)}, {progress.phase}" if progress else None),
            ("time left", _time_left(job)),
            ("model", record.asked("model", "name")),
            ("targets", jsonlib.dumps({k: v for k, v in record.spec.get("targets", {}).items() if v is not None})),
            ("attempts", "; ".join(_attempt(one) for one in record.attempts) or None),
            ("error", f"{record.error.code}: {record.error.message}" if record.error else None),
        ]
    )
    if record.result is None:
        return
    table(
        ("candidate", "sparsity", "accuracy", "select split"),
        [
            (
                one.name + (" ←" if (one.method, one.variant) == _winner(record) else ""),
                percent(one.sparsity, 2),
                "diverged" if one.diverged else percent(one.accuracy, 2),
                "" if one.diverged else percent(one.select_accuracy, 2),
            )
            for one in record.result.candidates
        ],
    )
    print(f"dense {percent(record.result.accuracy.dense, 2)}; {printable(record.result.verdict)}")
    print(f"purl download {record.id}  # {size(record.result.checkpoint.bytes)}")


def sparkline(values: list[float], width: int = 40) -> str:
    """The last values, each from 0 to 1, as a row of bars."""
    return "".join(BARS[min(int(value * len(BARS)), len(BARS) - 1)] for value in values[-width:])


class Story:
    """What was seen of a job so far."""

    def __init__(self) -> None:
        self.phase = "waiting"
        self.accuracies: list[float] = []
        self.sparsities: list[float] = []
        self.candidates: list[str] = []
        self.race: list[str] = []  # who stands where at the latest rung
        self.notes: list[str] = []

    def heed(self, event: Event) -> str | None:
        """Takes the event in; the line that it is worth, if any."""
        data = event.data
        if event.type == "phase":
            self.phase = str(data.get("phase"))
            return f"phase: {self.phase}"
        if event.type == "episode" and data.get("kind") == "search" and data.get("accuracies"):
            self.accuracies.append(data["accuracies"][-1])
            self.sparsities.append(data["sparsities"][-1])
            if len(self.accuracies) % EVERY == 0:
                shown = f"accuracy {percent(self.accuracies[-1])}, sparsity {percent(self.sparsities[-1])}"
                return f"episode {len(self.accuracies)}: {shown}"
        if event.type == "rung":
            self.race = standings(data)
            return "\n  ".join(self.race)
        if event.type == "candidate":
            came = "diverged" if data.get("diverged") else percent(data.get("accuracy"), 2)
            self.candidates.append(f"{_who(data)} {came}")
            return f"fine-tuned: {self.candidates[-1]}"
        if event.type == "attempt" and data.get("reason"):
            self.notes.append(f"attempt {data.get('number')} {data.get('state')}: {data['reason']}")
            return self.notes[-1]
        return None


def standings(rung: dict[str, Any]) -> list[str]:
    """A decision of the race: after how much fine-tuning, and then each candidate, the best first."""
    rows = sorted(rung.get("candidates") or (), key=lambda one: -(one.get("select_accuracy") or 0.0))
    said = [
        f"{percent(one.get('select_accuracy')):>6} {_who(one)}{'' if one.get('goes_on') else ' (out)'}" for one in rows
    ]
    target = rung.get("target")
    at = "" if target is None else f" at {percent(target)}"
    return [f"race{at}: after {rung.get('epochs')} of {rung.get('of_epochs')} epochs", *said]


def _who(candidate: dict[str, Any]) -> str:
    return " ".join(str(candidate[key]) for key in ("method", "variant") if candidate.get(key))


def _time_left(job: Job) -> str | None:
    """Of the search: what comes after it depends on who stays in the race."""
    progress = job.progress
    if job.ended or progress is None or progress.eta_seconds is None:
        return None
    minutes, seconds = divmod(round(progress.eta_seconds), 60)
    return f"about {minutes} min {seconds} s of the search" if minutes else f"about {seconds} s of the search"


def _followed(job: Job) -> Iterator[Event]:
    """The job's events, with its progress looked up now and then."""
    looked = time.monotonic()
    for event in job.events():
        if time.monotonic() - looked >= LOOK_SECONDS:
            looked = time.monotonic()
            job.refresh()
        yield event


def _tell(job: Job) -> None:
    story = Story()
    for event in _followed(job):
        if (line := story.heed(event)) is not None:
            left = _time_left(job) if event.type == "episode" else None
            print(printable(line) + (f", {left}" if left else ""), flush=True)


def _draw(job: Job) -> None:
    from rich.live import Live

    story = Story()
    with Live(_picture(job, story), refresh_per_second=4) as live:
        for event in _followed(job):
            story.heed(event)
            live.update(_picture(job, story))


def _picture(job: Job, story: Story) -> Any:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    episodes = job.spec.get("search", {}).get("episodes") or 1
    grid.add_row("phase", escaped(story.phase))
    if story.accuracies:
        done = len(story.accuracies)
        bar = "█" * round(30 * done / max(episodes, done))
        grid.add_row("episodes", f"{bar:30} {done} of {episodes}")
        grid.add_row("accuracy", f"{sparkline(story.accuracies)} {percent(story.accuracies[-1])}")
        grid.add_row("sparsity", f"{sparkline(story.sparsities)} {percent(story.sparsities[-1])}")
    if story.race:
        grid.add_row("race", escaped("\n".join(story.race)))
    for one in story.candidates:
        grid.add_row("raced", escaped(one))
    if (left := _time_left(job)) is not None:
        grid.add_row("time left", left)
    for note in story.notes[-3:]:
        grid.add_row("", escaped(note))
    return grid


@contextmanager
def bytes_bar(*, quiet: bool) -> Iterator[OnBytes]:
    """A bar for bytes on their way, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("")
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _attempt(one: Any) -> str:
    return f"{one.number} {one.state}" + (f" ({one.reason})" if one.reason else "")


def _winner(record: Any) -> tuple[str, str | None]:
    return record.result.winner.method, record.result.winner.variant
