"""What a job or a sweep says of itself, the same for both clients; a notebook shows a small table and pictures."""

from __future__ import annotations

from typing import Any

from purlkit.client.records import Error, Event, JobRecord, Progress, Result, SweepRecord, SweepRow


class JobView:
    """A job as it was when the service was last asked."""

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        self._walks: dict[int, tuple[float, float]] = {}  # by event: how accurate and sparse an episode ended

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
        """Remembers of an event what the notebook's curve shows. One that is heard again changes nothing."""
        if event.type == "episode" and event.data.get("kind") == "search":
            accuracies, sparsities = event.data.get("accuracies"), event.data.get("sparsities")
            if isinstance(accuracies, list) and isinstance(sparsities, list) and accuracies and sparsities:
                self._walks[event.seq] = (accuracies[-1], sparsities[-1])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}>"

    def _repr_html_(self) -> str:
        from purlkit.client.notebook import shown  # the pictures are not everybody's need

        return shown(self.record, self._walks)


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
