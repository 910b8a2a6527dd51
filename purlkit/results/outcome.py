"""What comes of a job: its episodes, its candidates, its result. Numbers of the winner are counted from its file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from purlkit.results.said import Said
from purlkit.spec import Goal, Sha256

Fraction = Annotated[float, Field(ge=0, le=1)]

# Every artifact of a job by its one name.
CHECKPOINT = "pruned.safetensors"
COMPRESSED = "pruned.safetensors.gz"
ONNX = "pruned.onnx"
WEIGHTS = "weights.json"
POLICY = "policy.json"
RESULT = "result.json"
EPISODES = "episodes.parquet"
REPORT = "report.html"
LOG = "attempt.log"


def of_target(name: str, target: float, targets: int) -> str:
    """The same file for one of several targets.

    >>> of_target(CHECKPOINT, 0.9, targets=1), of_target(CHECKPOINT, 0.9, targets=3)
    ('pruned.safetensors', 'pruned-0.9.safetensors')
    """
    stem, dot, rest = name.partition(".")
    return name if targets == 1 else f"{stem}-{target!r}{dot}{rest}"


EpisodeKind = Literal["search", "greedy"]


class Episode(Said):
    """One walk over the network: what was chosen, what came of it."""

    index: int = Field(ge=0, description="runs on over the stages and the targets")
    kind: EpisodeKind
    stage: int = Field(0, ge=0)
    point: int = Field(0, ge=0, description="which of several target sparsities it is for")
    actions: tuple[int, ...] = Field(strict=False)
    rewards: tuple[float, ...] = Field(strict=False)
    accuracies: tuple[Fraction, ...] = Field(strict=False)
    sparsities: tuple[Fraction, ...] = Field(strict=False)
    seconds: float = Field(ge=0)
    steps_computed: int = Field(
        0, ge=0, description="steps retrained and measured for this walk, an earlier one's of the same runner aside"
    )
    kept: tuple[int, ...] = Field(
        (), strict=False, description="of purl-budget: the weights in each layer at the best point of the walk"
    )
    loss: float | None = Field(None, ge=0, description="of purl-budget: the reward split's cross-entropy there")
    runner: int = Field(ge=0)
    weights_version: int = Field(ge=0, description="how many episodes the acting policy had learnt from")
    rerun: bool = Field(False, description="played again because an earlier try was lost")


class Layer(Said):
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
    multiply_adds: int | None = Field(None, ge=0, description="of the dense layer, for one image")
    multiply_adds_kept: int | None = Field(None, ge=0, description="those with weights that are kept")


class Cost(Said):
    """What pruning saves on paper: no hardware is faster for single zeros. All numbers are of one image."""

    parameters: int = Field(ge=1, description="of the dense network: biases and norms too")
    parameters_kept: int = Field(ge=1, description="the same less the weights removed")
    multiply_adds: int = Field(ge=0, description="of convolutions and linear layers, dense; 0: none could be counted")
    multiply_adds_kept: int = Field(ge=0, description="those with weights that are kept")
    compression: float = Field(ge=1, description="parameters / parameters_kept: the denominator is all parameters")
    compression_prunable: float = Field(ge=1, description="the same of the prunable weights alone: 1 / (1 - sparsity)")
    speed_up: float = Field(ge=1, description="theoretical: multiply_adds / multiply_adds_kept; 1 where both are 0")
    flops_pruned: Fraction = Field(description="share of the multiply-adds removed, as papers print it")


class Candidate(Said):
    """One pruned network of a race, at the rung where it stopped or was compared; accuracies are top-1 unless named so.

    With several seeds the accuracies after fine-tuning are their means. One whose fine-tuning diverged lost by that:
    all its accuracies are those before fine-tuning, and `epochs` is 0.
    """

    method: str
    variant: Literal["mean", "best"] | None = None
    target: Fraction = Field(description="the share asked for, of what its point's `goal` says")
    sparsity: Fraction
    accuracy_pruned: Fraction = Field(description="before fine-tuning, select split")
    select_accuracy: Fraction = Field(description="after fine-tuning, select split: what the choice was made by")
    accuracy: Fraction = Field(description="after fine-tuning, test split, read when all was decided")
    top5_accuracy: Fraction | None = Field(None, description="the same of top-5; null with 5 classes or fewer")
    epochs: int = Field(ge=0, description="of fine-tuning when these were measured")
    seeds: int = Field(1, ge=1, description="fine-tuning seeds")
    images_seen: int = Field(ge=0, description="training images that it cost: finding it, and all its fine-tuning")
    device_seconds: float = Field(ge=0, description="seconds of a runner for the same")
    layers: tuple[LayerReport, ...] = Field(strict=False)
    cost: Cost | None = None
    mask_sha256: Sha256 = Field(description="of which weights are kept: equal for equal masks, bit for bit")
    note: str | None = Field(None, description="what a reader must know, for example why the target was missed")
    diverged: str | None = Field(None, description="where its fine-tuning diverged, and the remedy; null: nowhere")


class Accuracy(Said):
    """Top-1 on the test split, which no choice was made by."""

    dense: Fraction
    pruned: Fraction
    fine_tuned: Fraction = Field(description="of the checkpoint, measured from its file")


class Winner(Said):
    method: str
    variant: Literal["mean", "best"] | None = None


class CheckpointRef(Said):
    name: str = CHECKPOINT
    sha256: Sha256
    bytes: int = Field(ge=1)


class Headline(Said):
    """What came of one target sparsity. Every number of the winner was measured again from the written file."""

    winner: Winner
    verdict: str
    targets_met: bool
    reason: str | None = Field(None, description="why the targets are not met")
    sparsity: Fraction
    flops: Cost | None = Field(None, description="of the winner, from the weights in its file")
    accuracy: Accuracy
    top5_accuracy: Fraction | None = Field(None, description="of the winner, test split; null with 5 classes or fewer")
    checkpoint: CheckpointRef


class RaceReport(Said):
    """How the finalists of a target were compared, and what comparing cost, the winner's own full run included."""

    epochs: int = Field(ge=1, description="after which they were compared")
    of_epochs: int = Field(ge=1, description="of a full fine-tune")
    seeds: int = Field(ge=1)
    images: int = Field(ge=0)
    device_seconds: float = Field(ge=0)


class MatchedReport(Said):
    """The sceptic's control: the best naive method fine-tuned for as long as the search and its fine-tuning took."""

    method: str
    epochs: int = Field(ge=1)
    select_accuracy: Fraction
    accuracy: Fraction = Field(description="test split")


class Point(Headline):
    target: Fraction = Field(description="the share asked for, of what `goal` says")
    goal: Goal = Field("sparsity", description="what was to be removed: weights, or with flops multiply-adds")
    race: RaceReport
    matched: MatchedReport | None = None


class Front(Said):
    """The targets whose checkpoints no other beats in one thing without losing in the other; test accuracy."""

    sparsity: tuple[Fraction, ...] = Field(strict=False, description="accuracy over sparsity")
    flops: tuple[Fraction, ...] = Field((), strict=False, description="accuracy over multiply-adds that are left")


class Result(Headline):
    """A finished job. The headline is that of the highest target that meets the accuracy target, else the lowest."""

    points: tuple[Point, ...] = Field(strict=False, min_length=1, description="one for each target sparsity")
    front: Front
    met_up_to: Fraction | None = Field(description="the highest target sparsity that met all targets; null: none did")
    prunable_weights: int = Field(ge=1, description="the denominator of every sparsity")
    candidates: tuple[Candidate, ...] = Field(strict=False)
    dense_sha256: Sha256
    splits: dict[str, int]
    seed: int
    versions: dict[str, str]
    search_seconds: float = Field(ge=0, description="wall time of all of PuRL's before its races")
    search_images: int = Field(ge=0, description="training images of the same")
    search_steps: int = Field(0, ge=0, description="layers walked over by the searches, greedy walks too")
    search_steps_computed: int = Field(0, ge=0, description="how many of these were not looked up")
