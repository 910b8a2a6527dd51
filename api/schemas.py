"""What the public routes answer with. The records of purlkit are the inner parts; these add ids, times and links."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from purlkit.results import (
    Accuracy,
    CheckpointRef,
    CheckReport,
    Episode,
    ErrorReport,
    LayerReport,
    Point,
    Progress,
    Result,
    Winner,
)
from purlkit.spec import JobSpec, SweepSpec
from services.states import AttemptState, JobState

Item = TypeVar("Item")
Known = TypeVar("Known")

# A record that another version of the program stored and this one can't read is shown as it was stored.
Stored = Annotated[Known | dict[str, Any], Field(union_mode="left_to_right")]


class Page(BaseModel, Generic[Item]):
    """One page of a list. Pass `next` on as `after` for the one behind it."""

    data: list[Item]
    has_more: bool
    next: str | None = Field(None, description="opaque; none where there is nothing to go on from")


class AttemptView(BaseModel):
    """One try at running the job. Each rescue and each resume is a new one."""

    number: int
    state: AttemptState
    started_at: datetime | None
    ended_at: datetime | None
    reason: str | None = Field(description="why it ended, for a reader")
    cause: str | None = Field(
        description="the same for a program: lost, stalled, drained, timeout, or the code of its error"
    )
    log: str = Field(description="where its log is; it grows while the attempt runs")


class CandidateLayers(BaseModel):
    """One network of the race, layer by layer."""

    method: str
    variant: Literal["mean", "best"] | None
    target: float = Field(description="the share asked for, of what its point's `goal` says")
    winner: bool = Field(description="whether that target's checkpoint is this one")
    sparsity: float
    layers: list[LayerReport]


class CheckpointView(CheckpointRef):
    href: str


class PointView(Point):
    checkpoint: CheckpointView


class ResultView(Result):
    checkpoint: CheckpointView
    points: tuple[PointView, ...] = Field(strict=False, description="one for each target sparsity")


class Links(BaseModel):
    self: str
    events: str
    episodes: str
    artifacts: str
    layers: str | None = Field(description="none before the job has succeeded")
    checkpoint: str | None = Field(description="none before the job has succeeded")
    report: str | None = Field(description="none before the job has succeeded")


class JobView(BaseModel):
    """A job. Once it has ended it has exactly one of `result` and `error`, and never changes again."""

    id: str
    name: str | None
    parent: str | None = Field(description="the ended job that this one retries")
    sweep: str | None = Field(description="the sweep that it is one of")
    state: JobState
    requested: Literal["cancel", "pause"] | None = Field(description="asked for, and not yet done by the attempt")
    phase: str | None
    pending_reason: str | None = Field(description="why it waits: queued, paused, or for room on a busy cluster")
    queue_position: int | None = Field(description="1 starts next; none for a job that is not in the line")
    spec: Stored[JobSpec] = Field(description="with every default filled in")
    fingerprint: str = Field(description="sha256 of what the job computes")
    progress: Stored[Progress] | None
    attempts: list[AttemptView]
    result: Stored[ResultView] | None
    error: Stored[ErrorReport] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    last_heartbeat_at: datetime | None
    links: Links


class EventView(BaseModel):
    """One thing that happened to a job. `seq` counts 1, 2, 3, … within the job."""

    seq: int
    type: str
    at: datetime
    attempt: str | None = Field(description="id of the attempt that said it; none where the service did")
    data: dict[str, object]


class EpisodeView(Episode):
    attempt: int = Field(description="number of the attempt that played it")


class ArtifactView(BaseModel):
    name: str
    sha256: str
    bytes: int
    media_type: str
    created_at: datetime
    href: str


class Listing(BaseModel, Generic[Item]):
    """A list that is short by nature."""

    data: list[Item]


class UploadView(BaseModel):
    """Name it in a spec as {"model": {"weights": {"sha256": "…"}}}."""

    sha256: str
    bytes: int
    tensors: int


class UploadedView(UploadView):
    """Weights that are kept. Those that no job names go after a while: PURL_KEEP_WEIGHTS_DAYS."""

    created_at: datetime


class CheckView(CheckReport):
    """What a job of this spec would be, and whether it can run here now."""

    spec: JobSpec = Field(description="with every default filled in")
    fingerprint: str


class StoredView(BaseModel):
    """What has arrived of a worker's upload."""

    sha256: str
    bytes: int


class LogView(BaseModel):
    bytes: int = Field(description="how much of the attempt's log is here")


class FinishView(BaseModel):
    job_state: JobState


class SweepOutcome(BaseModel):
    """What came of one network of a job's race, without its layers."""

    method: str
    variant: str | None
    target: float = Field(description="the sparsity asked for")
    sparsity: float
    accuracy_pruned: float = Field(description="before fine-tuning, select split")
    accuracy: float = Field(description="after fine-tuning, test split")


class SweepResult(BaseModel):
    """Of a job that succeeded; `GET /jobs/{id}` has all of it."""

    winner: Stored[Winner]
    verdict: str
    targets_met: bool
    sparsity: float
    accuracy: Stored[Accuracy]
    candidates: list[SweepOutcome]


class SweepRow(BaseModel):
    """One job of a sweep, with what sets it apart."""

    job: str
    settings: dict[str, Any] = Field(description="by the name of a field: its value, or the name of its value")
    state: JobState
    progress: float | None = Field(description="from 0 to 1; none before it has begun")
    result: Stored[SweepResult] | None
    error: Stored[ErrorReport] | None


class SweepSummary(BaseModel):
    """A sweep in a list."""

    id: str
    name: str | None
    jobs: dict[JobState, int] = Field(description="how many of its jobs are in which state")
    ended: bool = Field(description="whether all of them have ended")
    created_at: datetime
    links: dict[str, str]


class SweepView(SweepSummary):
    """A sweep with its table, which fills as its jobs end. A job that was retried is replaced by its retry."""

    spec: Stored[SweepSpec]
    table: list[SweepRow]
