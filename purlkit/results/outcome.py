"""What comes of a job: its episodes, its candidates, its result. Numbers of the winner are counted from its file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from purlkit.spec import Record, Sha256

Fraction = Annotated[float, Field(ge=0, le=1)]

# Every artifact of a job by its one name.
CHECKPOINT = "pruned.safetensors"
COMPRESSED = "pruned.safetensors.gz"
ONNX = "pruned.onnx"
WEIGHTS = "weights.json"
POLICY = "policy.json"
RESULT = "result.json"
LOG = "attempt.log"


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
    steps_computed: int = Field(
        0, ge=0, description="steps retrained and measured for this walk, an earlier one's of the same runner aside"
    )
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
    multiply_adds: int | None = Field(None, ge=0, description="of the dense layer, for one image")
    multiply_adds_kept: int | None = Field(None, ge=0, description="those with weights that are kept")


class Cost(Record):
    """What pruning saves on paper: no hardware is faster for single zeros. All numbers are of one image."""

    parameters: int = Field(ge=1, description="of the dense network: biases and norms too")
    parameters_kept: int = Field(ge=1, description="the same less the weights removed")
    multiply_adds: int = Field(ge=1, description="of convolutions and linear layers, dense")
    multiply_adds_kept: int = Field(ge=1, description="those with weights that are kept")
    compression: float = Field(ge=1, description="parameters / parameters_kept: the denominator is all parameters")
    compression_prunable: float = Field(ge=1, description="the same of the prunable weights alone: 1 / (1 - sparsity)")
    speed_up: float = Field(ge=1, description="theoretical: multiply_adds / multiply_adds_kept")
    flops_pruned: Fraction = Field(description="share of the multiply-adds removed, as papers print it")


class Candidate(Record):
    """One pruned network of the race; every accuracy is top-1 where its name does not say top-5."""

    method: str
    variant: Literal["mean", "best"] | None = None
    sparsity: Fraction
    accuracy_pruned: Fraction = Field(description="before fine-tuning, test split")
    accuracy: Fraction = Field(description="after fine-tuning, test split")
    top5_accuracy: Fraction | None = Field(
        None, description="after fine-tuning, test split; null with 5 classes or fewer"
    )
    select_accuracy: Fraction = Field(description="after fine-tuning, select split: what the choice was made by")
    images_seen: int = Field(ge=0, description="training images the method cost: search and fine-tuning")
    seconds: float = Field(ge=0, description="wall time of the same")
    layers: tuple[LayerReport, ...] = Field(strict=False)
    cost: Cost | None = None
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
    flops: Cost | None = Field(None, description="of the winner, from the weights in its file")
    accuracy: Accuracy
    top5_accuracy: Fraction | None = Field(None, description="of the winner, test split; null with 5 classes or fewer")
    candidates: tuple[Candidate, ...] = Field(strict=False)
    checkpoint: CheckpointRef
    dense_sha256: Sha256
    splits: dict[str, int]
    seed: int
    versions: dict[str, str]
    search_seconds: float = Field(ge=0, description="all of PuRL's before its last fine-tune, earlier stages included")
    search_images: int = Field(ge=0, description="training images of the same")
    search_steps: int = Field(0, ge=0, description="layers walked over in the last stage's search, greedy walks too")
    search_steps_computed: int = Field(0, ge=0, description="how many of these were not looked up")
