"""What a job or a sweep says of itself, the same for both clients; a notebook shows a small table and a curve."""

from __future__ import annotations

from html import escape
from typing import Any

from purlkit.client.records import Error, Event, JobRecord, Progress, Result, SweepRecord, SweepRow


class JobView:
    """A job as it was when the service was last asked."""

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        self._curve: list[float] = []  # accuracy after each episode of the search, as far as it was seen

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str | None:
        return self.record.name

    @property
    def state(self) -> str:
        return self.record.state

    @property
    def ended(self) -> bool:
        return self.record.ended

    @property
    def spec(self) -> dict[str, Any]:
        return self.record.spec

    @property
    def progress(self) -> Progress | None:
        return self.record.progress

    @property
    def result(self) -> Result | None:
        return self.record.result

    @property
    def error(self) -> Error | None:
        return self.record.error

    def heed(self, event: Event) -> None:
        """Remembers of an event what the notebook's curve shows."""
        if event.type == "episode" and event.data.get("kind") == "search":
            accuracies = event.data.get("accuracies")
            if isinstance(accuracies, list) and accuracies:
                self._curve.append(accuracies[-1])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}>"

    def _repr_html_(self) -> str:
        rows = [("job", self.id), ("state", self.state), ("model", str(self.record.asked("model", "name")))]
        rows += [(goal, str(told)) for goal in ("sparsity", "flops") if (told := self.record.asked("targets", goal))]
        if self.record.pending_reason:
            rows.append(("waits for", self.record.pending_reason))
        if self.progress is not None and not self.ended:
            rows.append(("progress", f"{self.progress.fraction:.0%}, {self.progress.phase}"))
        if self.error is not None:
            rows.append(("error", self.error.message))
        if self.result is not None:
            rows += [
                (one.name, "diverged" if one.diverged else f"{one.accuracy:.2%} at {one.sparsity:.2%}")
                for one in self.result.candidates
            ]
            rows.append(("verdict", self.result.verdict))
        cells = "".join(f"<tr><th align='left'>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows)
        return f"<table>{cells}</table>{_curve(self._curve)}"


class SweepView:
    """A sweep as it was when the service was last asked."""

    def __init__(self, record: SweepRecord) -> None:
        self.record = record

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def ended(self) -> bool:
        return self.record.ended

    @property
    def table(self) -> tuple[SweepRow, ...]:
        """One row for each job; empty in a list of sweeps."""
        return self.record.table

    def __repr__(self) -> str:
        counts = " ".join(f"{count} {state}" for state, count in self.record.jobs.items())
        return f"<{type(self).__name__} {self.id} {counts}>"


def _curve(values: list[float], width: int = 360, height: int = 80) -> str:
    """The search's accuracies, episode by episode, from 0 at the bottom to 1 at the top."""
    if len(values) < 2:
        return ""
    step = width / (len(values) - 1)
    points = " ".join(f"{index * step:.1f},{height * (1 - value):.1f}" for index, value in enumerate(values))
    line = f"<polyline points='{points}' fill='none' stroke='currentColor' stroke-width='1.5'/>"
    title = f"<title>accuracy after each of {len(values)} episodes</title>"
    return f"<svg role='img' width='{width}' height='{height}' viewBox='0 0 {width} {height}'>{title}{line}</svg>"
