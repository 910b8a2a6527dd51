"""Sweeps as their public representations: the table of all jobs, read again and again while it fills."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

from pydantic_core import to_jsonable_python
from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from api.represent import moment
from services import sweeps
from services.states import JobState
from services.tables import Job, Sweep

# Some hundred bytes each.
RESULTS_KEPT = 4000

_OUTCOME = ("method", "variant", "target", "sparsity", "accuracy_pruned", "accuracy")
_RESULT = ("winner", "verdict", "targets_met", "sparsity", "accuracy")


class SweepTables:
    """The tables' rows. A result has each layer of each candidate; of an ended job it is read only once."""

    def __init__(self, *, most: int = RESULTS_KEPT) -> None:
        self._most = most
        self._results: OrderedDict[str, dict[str, Any]] = OrderedDict()  # by the job's id
        self._lock = Lock()

    def of(self, session: Session, sweep_id: str) -> list[dict[str, Any]]:
        query = select(Job).where(Job.sweep_id == sweep_id).order_by(Job.id)
        members = list(session.scalars(query.options(defer(Job.result), defer(Job.spec))))
        retried = {job.parent for job in members}
        shown = [job for job in members if job.id not in retried]
        results = self._results_of(session, [job.id for job in shown if job.state is JobState.SUCCEEDED])
        # A retry stands where the ended one stood.
        places = {str(job.sweep_point): place for place, job in reversed(list(enumerate(members)))}
        shown.sort(key=lambda job: places[str(job.sweep_point)])
        return [_row(job, results.get(job.id)) for job in shown]

    def _results_of(self, session: Session, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        with self._lock:
            known = {job_id: self._results[job_id] for job_id in job_ids if job_id in self._results}
        unknown = [job_id for job_id in job_ids if job_id not in known]
        read = session.execute(select(Job.id, Job.result).where(Job.id.in_(unknown))).all() if unknown else []
        fresh = {job_id: _result(result) for job_id, result in read}
        with self._lock:
            self._results |= fresh
            while len(self._results) > self._most:
                self._results.popitem(last=False)
        return known | fresh


def summaries(session: Session, found: Sequence[Sweep]) -> list[dict[str, Any]]:
    states = sweeps.states(session, [sweep.id for sweep in found])
    return [_summary(sweep, states[sweep.id]) for sweep in found]


def view(session: Session, tables: SweepTables, sweep: Sweep) -> dict[str, Any]:
    (summary,) = summaries(session, [sweep])
    return {**summary, "spec": sweep.spec, "table": tables.of(session, sweep.id)}


def sweep_path(sweep: Sweep) -> str:
    return f"/sweeps/{sweep.id}"


def _summary(sweep: Sweep, states: dict[JobState, int]) -> dict[str, Any]:
    here = sweep_path(sweep)
    return {
        "id": sweep.id,
        "name": sweep.name,
        "jobs": {state.value: states[state] for state in JobState if states[state]},
        "ended": all(state.is_terminal for state in JobState if states[state]),
        "created_at": to_jsonable_python(moment(sweep.created_at)),
        "links": {"self": here, "jobs": f"/jobs?sweep={sweep.id}"},
    }


def _row(job: Job, result: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "job": job.id,
        "settings": job.sweep_point or {},
        "state": job.state.value,
        "progress": job.progress and job.progress.get("fraction"),
        "result": result,
        "error": job.error,
    }


def _result(stored: dict[str, Any] | None) -> dict[str, Any]:
    """What another version of the program stored otherwise is shown as far as it is there."""
    stored = stored or {}
    candidates = [{name: each.get(name) for name in _OUTCOME} for each in stored.get("candidates", ())]
    return {**{name: stored.get(name) for name in _RESULT}, "candidates": candidates}
