"""What a process counts for Prometheus: events, each counted by the process in which it happened and summed there.

What is a state, how many jobs wait for instance, is no event: services.gauges reads it from the database. What belongs
to a transaction counts when it commits, so a write that is tried again counts once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from sqlalchemy import event
from sqlalchemy.orm import Session

from services.states import ENDED
from services.tables import Attempt, Job

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

REGISTRY = CollectorRegistry()
PROCESS = ProcessCollector(registry=REGISTRY)  # CPU, memory, open files

JOBS_ENDED = Counter("purl_jobs_ended", "Jobs that came to their end", ["state"], registry=REGISTRY)
ATTEMPTS_ENDED = Counter(
    "purl_attempts_ended",
    "Attempts that ended; cause lease: silent until its lease ran out, lost: its process died, error: an exception",
    ["state", "cause"],
    registry=REGISTRY,
)
EPISODES = Counter("purl_episodes", "Episodes that workers reported, repeated ones too", ["kind"], registry=REGISTRY)
STEPS = Counter(
    "purl_steps", "Steps of these episodes: one layer pruned and retrained each", ["kind"], registry=REGISTRY
)

REQUESTS = Counter("purl_http_requests", "Requests by their answer", ["method", "route", "status"], registry=REGISTRY)
LATENCY = Histogram(
    "purl_http_request_seconds",
    "From a request's head to its answer's head: streams and downloads go on after it",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)

PASSES = Histogram(
    "purl_dispatcher_pass_seconds",
    "One look of this dispatcher at everything that waits or runs",
    buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60),
    registry=REGISTRY,
)
PASSES_FAILED = Counter("purl_dispatcher_passes_failed", "Those of them that failed in part", registry=REGISTRY)
LAST_PASS = Gauge("purl_dispatcher_last_pass_timestamp_seconds", "When the last one ended", registry=REGISTRY)

_WAITING = "purl.metrics"  # in a session's `info`: what counts once it commits

# Causes of ours. An exception's cause is its code, and those are the workers' words: too many for a label.
CAUSES = frozenset({"lost", "stalled", "drained", "timeout"})


def job_ended(session: Session, job: Job) -> None:
    state = job.state.value
    _when_committed(session, lambda: JOBS_ENDED.labels(state).inc())


def attempt_ended(session: Session, attempt: Attempt) -> None:
    state, cause = attempt.state.value, _cause_of(attempt)
    _when_committed(session, lambda: ATTEMPTS_ENDED.labels(state, cause).inc())


def episode_played(session: Session, kind: str, steps: int) -> None:
    def count() -> None:
        EPISODES.labels(kind).inc()
        STEPS.labels(kind).inc(steps)

    _when_committed(session, count)


@contextmanager
def a_pass() -> Iterator[None]:
    """Around one pass of the dispatcher, whether it fails or not."""
    with PASSES.time(), PASSES_FAILED.count_exceptions():
        try:
            yield
        finally:
            LAST_PASS.set(time.time())


def render(*more: CollectorRegistry) -> bytes:
    """The process's own counters, and what else is given, in Prometheus' text format."""
    _tell_of_what_has_not_happened()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, of use to nobody
    return b"".join(generate_latest(registry) for registry in (REGISTRY, *more))


def _tell_of_what_has_not_happened() -> None:
    """A series that begins with its first event would hide just that one: Prometheus sees no rise in it."""
    for end in ENDED:
        JOBS_ENDED.labels(end.value)
    for state, cause in (("lost", "lost"), ("lost", "lease"), ("lost", "stalled"), ("failed", "error")):
        ATTEMPTS_ENDED.labels(state, cause)


def _cause_of(attempt: Attempt) -> str:
    if attempt.cause is None:
        return "none"
    if attempt.cause == "lost" and attempt.lease_until < (attempt.ended_at or 0):
        return "lease"
    return attempt.cause if attempt.cause in CAUSES else "error"


def _when_committed(session: Session, count: Callable[[], None]) -> None:
    session.info.setdefault(_WAITING, []).append(count)


@event.listens_for(Session, "after_commit")
def _count(session: Session) -> None:
    # The end of a savepoint is no commit yet.
    if not session.in_nested_transaction():
        for count in session.info.pop(_WAITING, ()):
            count()
