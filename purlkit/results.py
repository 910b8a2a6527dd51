"""What flows back from a worker: the records of a search, of a finished job, and of every call a worker makes.

Both sides of the HTTP boundary import these, so there is one definition of each.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from purlkit.spec import JobSpec, Record, Sha256

Fraction = Annotated[float, Field(ge=0, le=1)]
ArtifactName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]

# Every artifact of a job by its one name.
CHECKPOINT = "pruned.safetensors"
POLICY = "policy.json"
RESULT = "result.json"
LOG = "attempt.log"


class Phase(StrEnum):
    """Where an attempt is. In this order."""

    CHECKING = "checking"
    DENSE = "dense"
    SEARCH = "search"
    POLICY = "policy"
    RACE = "race"
    VERIFY = "verify"
    PUBLISH = "publish"


EpisodeKind = Literal["search", "greedy"]


class Episode(Record):
    """One walk over the network: what was chosen, what came of it."""

    index: int = Field(ge=0, description="runs on over the stages")
    kind: EpisodeKind
    stage: int = Field(0, ge=0)
    actions: tuple[int, ...] = Field(strict=False)
    rewards: tuple[float, ...] = Field(strict=False)
    accuracies: tuple[Fraction, ...] = Field(strict=False)
    sparsities: tuple[Fraction, ...] = Field(strict=False)
    seconds: float = Field(ge=0)
    runner: int = Field(ge=0)
    weights_version: int = Field(ge=0, description="how many episodes the acting policy had learnt from")
    rerun: bool = Field(False, description="played again because an earlier try was lost")


class Layer(Record):
    """One prunable layer as the network has it."""

    name: str
    kind: str
    shape: tuple[int, ...] = Field(strict=False)
    weights: int = Field(ge=1)


class LayerReport(Layer):
    """One prunable layer of a pruned network."""

    kept: int = Field(ge=0)
    sparsity: Fraction
    alpha: float | None = Field(None, ge=0, description="the cut in the criterion's unit, where a policy chose it")


class Candidate(Record):
    """One pruned network of the race; every accuracy is top-1."""

    method: str
    variant: Literal["mean", "best"] | None = None
    sparsity: Fraction
    accuracy_pruned: Fraction = Field(description="before fine-tuning, test split")
    accuracy: Fraction = Field(description="after fine-tuning, test split")
    select_accuracy: Fraction = Field(description="after fine-tuning, select split: what the choice was made by")
    images_seen: int = Field(ge=0, description="training images the method cost: search and fine-tuning")
    seconds: float = Field(ge=0, description="wall time of the same")
    layers: tuple[LayerReport, ...] = Field(strict=False)
    mask_sha256: Sha256 = Field(description="of which weights are kept: equal for equal masks, bit for bit")
    note: str | None = Field(None, description="what a reader must know, for example why the target was missed")


class Accuracy(Record):
    """Top-1 on the test split, which no choice was made by."""

    dense: Fraction
    pruned: Fraction
    fine_tuned: Fraction


class Winner(Record):
    method: str
    variant: Literal["mean", "best"] | None = None


class CheckpointRef(Record):
    sha256: Sha256
    bytes: int = Field(ge=1)


class Result(Record):
    """A finished job. Every number of the winner was measured again from the written file."""

    winner: Winner
    verdict: str
    targets_met: bool
    sparsity: Fraction
    prunable_weights: int = Field(ge=1, description="the denominator of every sparsity")
    accuracy: Accuracy
    candidates: tuple[Candidate, ...] = Field(strict=False)
    checkpoint: CheckpointRef
    dense_sha256: Sha256
    splits: dict[str, int]
    seed: int
    versions: dict[str, str]
    search_seconds: float = Field(ge=0, description="all of PuRL's before its last fine-tune, earlier stages included")
    search_images: int = Field(ge=0, description="training images of the same")


class ErrorReport(Record):
    """Why a job failed."""

    code: str = Field(max_length=100)
    message: str = Field(max_length=10_000)
    at: str | None = Field(None, max_length=500, description="JSON pointer into the spec")
    where: str | None = Field(None, max_length=1000, description="the place in the code: equal places are equal faults")
    retryable: bool = Field(False, description="whether another attempt may fare better")


class CheckReport(Record):
    """What `checking` found: all that can be known of a spec before any training."""

    runnable: bool
    reasons: tuple[ErrorReport, ...] = Field((), strict=False)
    layers: tuple[Layer, ...] = Field((), strict=False)
    prunable_weights: int | None = None
    sparsity_range: tuple[float, float] | None = Field(None, strict=False)
    steps: int | None = Field(None, description="environment steps of the search")
    memory_bytes: int | None = Field(None, description="a runner's weights and data, roughly")


class Progress(Record):
    fraction: Fraction
    phase: Phase
    episode: int | None = Field(None, ge=0)
    episodes: int | None = Field(None, ge=1)
    accuracy: Fraction | None = Field(None, description="of the latest episode's last layer, reward split")
    sparsity: Fraction | None = None
    eta_seconds: float | None = Field(None, ge=0)


# ---- the calls of a worker ----


class SavedWork(Record):
    """A piece of finished work that a later attempt of the job goes on from."""

    sha256: Sha256
    bytes: int = Field(ge=0)
    href: str


class AttemptBrief(Record):
    """Answer to GET /attempts/{id}: all that a worker needs to start."""

    id: str
    job_id: str
    number: int = Field(ge=1)
    spec: JobSpec
    saved: dict[ArtifactName, SavedWork]
    weights_href: str | None
    lease_seconds: float = Field(gt=0)
    heartbeat_seconds: float = Field(gt=0)


class CheckBrief(Record):
    """Answer to GET /checks/{id}: what a dry run's checker needs."""

    spec: JobSpec
    weights_href: str | None


class Heartbeat(Record):
    phase: Phase
    counter: int = Field(ge=0, description="moved by finished steps and batches: life, not mere breath")
    progress: Progress | None = None


Command = Literal["continue", "pause", "cancel", "drain"]


class HeartbeatAnswer(Record):
    lease_seconds: float = Field(gt=0)
    command: Command


class WorkerEvent(Record):
    """One thing that happened. An episode event also becomes a row of the search's history."""

    type: Literal["phase", "episode", "candidate", "note"]
    data: dict[str, Any]


class WorkerEvents(Record):
    first_seq: int = Field(ge=0)
    events: tuple[WorkerEvent, ...] = Field(strict=False, max_length=1000)


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DRAINED = "drained"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class Finish(Record):
    """The last word of an attempt: one transaction on the other side."""

    outcome: Outcome = Field(strict=False)
    result: Result | None = None
    error: ErrorReport | None = None
    artifacts: tuple[ArtifactName, ...] = Field((), strict=False, max_length=100)
