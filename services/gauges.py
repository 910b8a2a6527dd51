"""How things stand, read from the database when Prometheus asks: every API and dispatcher says the same.

So a dashboard takes the maximum of these over the processes, and never their sum.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from services import quotas
from services.database import Database, clock
from services.scheduling import PRESENT_MS
from services.states import LIVE, JobState
from services.tables import Attempt, DispatcherRow, Job

log = logging.getLogger(__name__)

# Whoever asks more often gets the same answer: no number of scrapers is a burden to the database.
FRESH_SECONDS = 5.0
# The sum over every file that a row names is the one question whose cost grows with all that was ever done.
BYTES_FRESH_SECONDS = 60.0


class Gauges(Collector):
    """A database that does not answer is told as such, and everything else left out: no old number passes for new."""

    def __init__(self, db: Database, *, fresh_seconds: float = FRESH_SECONDS) -> None:
        self._db = db
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._read_at = -inf
        self._told: list[Metric] = []
        self._bytes_read_at, self._bytes = -inf, 0
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return ()  # registering asks nothing of the database

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if time.monotonic() - self._read_at >= self._fresh_seconds:
                self._told = self._read()
                self._read_at = time.monotonic()
            return self._told

    def _read(self) -> list[Metric]:
        try:
            with self._db.read() as session:
                return [_gauge("purl_database_up", "Whether the database answered", 1), *self._read_from(session)]
        except SQLAlchemyError as error:
            log.warning("the database does not answer: %s", getattr(error, "orig", error))
            return [_gauge("purl_database_up", "Whether the database answered", 0)]

    def _read_from(self, session: Session) -> list[Metric]:
        now = clock(session)
        return [*_queue(session, now), *_running(session, now), self._stored(session)]

    def _stored(self, session: Session) -> Metric:
        if time.monotonic() - self._bytes_read_at >= BYTES_FRESH_SECONDS:
            self._bytes, self._bytes_read_at = quotas.stored_bytes(session, of_all=True), time.monotonic()
        return _gauge("purl_stored_bytes", "Of all files of jobs and uploads, equal ones counted once", self._bytes)


def _queue(session: Session, now: int) -> Iterable[Metric]:
    by_state = session.execute(select(Job.state, func.count()).group_by(Job.state))
    counted = {state: count for state, count in by_state}  # noqa: C416, rows are typed only when unpacked
    states = {state.value: counted.get(state, 0) for state in JobState}
    yield _labelled("purl_jobs", "Jobs by state", "state", states)
    due = select(func.count(), func.min(Job.not_before)).where(Job.state == JobState.QUEUED, Job.not_before <= now)
    # The partial index of live attempts answers which of them have been claimed already.
    claimed = select(Attempt.job_id).where(Attempt.state.in_(LIVE))
    waiting, since = session.execute(due.where(Job.id.not_in(claimed))).one()
    yield _gauge("purl_queue_depth", "Jobs that could start if there were room", waiting)
    yield _gauge("purl_queue_oldest_seconds", "How long the longest of them has waited", _since(now, since))
    present = select(func.count()).select_from(DispatcherRow).where(DispatcherRow.seen_at > now - PRESENT_MS)
    yield _gauge("purl_dispatchers", "Dispatchers that look after the queue", session.scalars(present).one())


def _running(session: Session, now: int) -> Iterable[Metric]:
    query = select(Attempt.state, Attempt.lease_until, Attempt.lease_seconds, Job.id, Job.cpus, Job.gpus, Job.progress)
    live = session.execute(query.join(Job, Job.id == Attempt.job_id).where(Attempt.state.in_(LIVE))).all()
    states = {state.value: sum(one.state is state for one in live) for state in LIVE}
    yield _labelled("purl_attempts_live", "Attempts whose token still works", "state", states)
    heard = [one.lease_until - one.lease_seconds * 1000 for one in live]
    oldest = _since(now, min(heard, default=None))
    yield _gauge("purl_heartbeat_oldest_seconds", "Since the most silent of them was heard", oldest)
    reserved = {"cpus": sum(one.cpus for one in live), "gpus": sum(one.gpus for one in live)}
    yield _labelled("purl_reserved", "What running jobs have reserved", "resource", reserved)
    # As many as run at once, which PURL_MAX_RUNNING limits.
    gpus = {one.id: one.gpus for one in live if one.gpus}
    yield _labelled("purl_job_reserved_gpus", "GPUs that a running job has reserved", "job_id", gpus)
    taken = {one.id: count for one in live if (count := (one.progress or {}).get("gpu_memory_bytes"))}
    yield _labelled("purl_job_gpu_memory_bytes", "GPU memory that its search took, at most so far", "job_id", taken)


def _since(now: int, then: float | None) -> float:
    return 0.0 if then is None else max(0.0, (now - then) / 1000)


def _gauge(name: str, said: str, value: float) -> Metric:
    return GaugeMetricFamily(name, said, value=value)


def _labelled(name: str, said: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, said, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
