"""The calls of a worker to the service, and what each is answered."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from purlkit.results.outcome import Fraction, Result
from purlkit.results.reports import ErrorReport
from purlkit.results.said import Said
from purlkit.spec import JobSpec, Sha256

ArtifactName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Phase(StrEnum):
    """Where an attempt is. In this order."""

    CHECKING = "checking"
    DENSE = "dense"
    SEARCH = "search"
    POLICY = "policy"
    RACE = "race"
    VERIFY = "verify"
    PUBLISH = "publish"


class Progress(Said):
    fraction: Fraction
    phase: Phase
    episode: int | None = Field(None, ge=0)
    episodes: int | None = Field(None, ge=1)
    accuracy: Fraction | None = Field(None, description="of the latest episode's last layer, reward split")
    sparsity: Fraction | None = None
    eta_seconds: float | None = Field(None, ge=0)
    waits_for: str | None = Field(None, max_length=500, description="why it does not move, though it runs")
    gpu_memory_bytes: int | None = Field(
        None, ge=0, description="that the search's runners took of GPUs, at most so far"
    )


class SavedWork(Said):
    """A piece of finished work that a later attempt of the job goes on from."""

    sha256: Sha256
    bytes: int = Field(ge=0)
    href: str


class AttemptBrief(Said):
    """Answer to GET /attempts/{id}: all that a worker needs to start."""

    id: str
    job_id: str
    number: int = Field(ge=1)
    spec: JobSpec
    saved: dict[ArtifactName, SavedWork]
    weights_href: str | None
    lease_seconds: float = Field(gt=0)
    heartbeat_seconds: float = Field(gt=0)


class CheckBrief(Said):
    """Answer to GET /checks/{id}: what a dry run's checker needs."""

    spec: JobSpec
    weights_href: str | None


class Heartbeat(Said):
    phase: Phase
    counter: int = Field(ge=0, description="moved by finished steps and batches: life, not mere breath")
    progress: Progress | None = None


Command = Literal["continue", "pause", "cancel", "drain"]


class HeartbeatAnswer(Said):
    lease_seconds: float = Field(gt=0)
    command: Command


class WorkerEvent(Said):
    """One thing that happened. An episode event also becomes a row of the search's history."""

    type: Literal["phase", "episode", "rung", "candidate", "note"]
    data: dict[str, Any]


class WorkerEvents(Said):
    first_seq: int = Field(ge=0)
    events: tuple[WorkerEvent, ...] = Field(strict=False, max_length=1000)


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DRAINED = "drained"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class Finish(Said):
    """The last word of an attempt: one transaction on the other side."""

    outcome: Outcome = Field(strict=False)
    result: Result | None = None
    error: ErrorReport | None = None
    artifacts: tuple[ArtifactName, ...] = Field((), strict=False, max_length=1000)
