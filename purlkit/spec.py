"""What a client asks for: one frozen record, validated once, with a fingerprint that is its identity.

Every later part of the program receives one of these and never asks again whether it is sensible.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from purlkit.errors import InvalidSpec
from purlkit.zoo import catalog

# Part of every fingerprint: raised when the meaning of an existing field or default changes.
SPEC_VERSION = 1

# Fields that say how a job is handled, not what it computes.
NOT_IN_FINGERPRINT = frozenset({"name", "labels", "priority", "timeout_seconds", "max_attempts"})

Rate = Annotated[float, Field(gt=0, le=100)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Kwargs = Annotated[dict[str, bool | int | float | str], Field(max_length=32)]


class Record(BaseModel):
    """A value that refuses bad input at the door and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Training(Record):
    """One run of the training loop, with a cosine schedule. The default rates are for SGD: Adam wants smaller ones."""

    epochs: int = Field(30, ge=1, le=10_000, description="passes over the training images")
    learning_rate: Rate = Field(0.1, description="the rate at the first step; a cosine takes it to zero")
    batch_size: int = Field(100, ge=1, le=65_536, description="images per step")
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="SGD with Nesterov momentum, or Adam")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum; with Adam its first beta")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty on every parameter")


class FineTune(Training):
    """The training that every candidate gets after pruning, the same for all."""

    epochs: int = Field(10, ge=1, le=10_000, description="passes over the training images")
    learning_rate: Rate = Field(0.02, description="the rate at the first step; a cosine takes it to zero")


class Retrain(Training):
    """What follows each cut in the search: the paper's one epoch on a fixed subset of 1,000 training images."""

    epochs: int = Field(1, ge=1, le=100, description="passes over the subset")
    learning_rate: Rate = Field(0.02, description="the rate at the first step; a cosine takes it to zero")
    images: int = Field(1000, ge=1, le=1_000_000, description="size of the fixed subset of the training split")


class TrainHere(Record):
    """No weights are given: the service trains the dense model itself, from the job's seed."""

    train: Training = Training()


class Uploaded(Record):
    """Weights that the client uploaded before with POST /weights."""

    sha256: Sha256


def _kind_of_weights(value: Any) -> str:
    if isinstance(value, Uploaded) or (isinstance(value, dict) and "sha256" in value):
        return "uploaded"
    return "train"


Weights = Annotated[
    Annotated[TrainHere, Tag("train")] | Annotated[Uploaded, Tag("uploaded")], Discriminator(_kind_of_weights)
]


class Model(Record):
    name: str = Field(max_length=100, description="a name from GET /models")
    kwargs: Kwargs = Field({}, description="arguments of the model's builder")
    weights: Weights = Field(TrainHere(), description='{"train": {…}} or {"sha256": "…"} of an upload')


class Dataset(Record):
    name: str = Field(max_length=100, description="a name from GET /datasets")
    kwargs: Kwargs = Field({}, description="arguments of the data set's loader")


class Targets(Record):
    sparsity: float = Field(gt=0, lt=1, description="share of all prunable weights to remove")
    accuracy: float | None = Field(None, gt=0, le=1, description="top-1 accuracy to keep")
    max_drop: float | None = Field(None, ge=0, lt=1, description="accuracy that may be lost, from the dense model's")

    @model_validator(mode="after")
    def _one_accuracy_target(self) -> Targets:
        if self.accuracy is not None and self.max_drop is not None:
            raise ValueError("give accuracy or max_drop, not both")
        return self


class Agent(Record):
    """The DQN. The paper fixes buffer, discount, target period and exploration; the rest are our measured defaults."""

    hidden: tuple[int, ...] = Field((64, 64), strict=False, min_length=1, max_length=4, description="layer widths")
    learning_rate: Rate = Field(2e-3, description="Adam's rate")
    batch_size: int = Field(32, ge=1, le=4096, description="transitions per update")
    gamma: float = Field(0.982, gt=0, le=1, description="discount")
    buffer_steps: int = Field(400, ge=1, le=1_000_000, description="the replay holds exactly the last so many steps")
    target_update_every: int = Field(15, ge=1, le=100_000, description="steps between refreshes of the target net")
    train_every: int = Field(1, ge=1, le=10_000, description="environment steps per update")
    exploration_fraction: float = Field(0.7, gt=0, le=1, description="share of all steps in which epsilon falls")
    final_epsilon: float = Field(0.02, ge=0, le=1, description="epsilon after that")

    @model_validator(mode="after")
    def _positive_widths(self) -> Agent:
        if not all(1 <= width <= 4096 for width in self.hidden):
            raise ValueError("hidden: each width must be from 1 to 4096")
        return self


# The paper's 12 actions; and as many for the other criterion, evenly spread up to nearly all of a layer.
DEVIATIONS = tuple(round(0.2 * i, 1) for i in range(12))
SHARES = tuple(round(0.09 * i, 2) for i in range(12))


class Search(Record):
    """PuRL's search: the walk over the layers and the agent that learns from it."""

    algorithm: Literal["purl"] = Field("purl", description="which search to run")
    episodes: int = Field(55, ge=1, le=10_000, description="walks over the network that the agent learns from")
    greedy_episodes: int = Field(5, ge=1, le=100, description="walks of the trained policy; alphas are their mean")
    lookahead: int = Field(2, ge=1, le=1024, description="episode k acts with what was learnt up to k - lookahead")
    state: Literal["per_layer", "simple"] = Field(
        "per_layer",
        description="what the agent sees: accuracy and sparsity of each layer passed (2n numbers), or "
        "(next layer / n, accuracy now, share of all weights pruned)",
    )
    criterion: Literal["std", "magnitude_target"] = Field(
        "std", description="an action cuts below alpha standard deviations, or the alpha-th part of the layer's weights"
    )
    alphas: tuple[float, ...] = Field(
        DEVIATIONS,
        strict=False,
        min_length=2,
        max_length=256,
        description="the actions, in the criterion's unit; magnitude_target's default is 0, 0.09, …, 0.99",
    )
    reward: Literal["capped", "upside", "cubic"] = Field(
        "capped", description="accuracy above its target earns nothing, A/T_A - 1 (the paper's R2) or its cube's (R3)"
    )
    beta: float = Field(1.0, gt=0, le=1000, description="scale of the reward")
    dense: bool = Field(True, description="retrain, measure and reward after every layer, not only after the last")
    accuracy_floor: float | None = Field(
        None, gt=0, lt=1, description="accuracy under which a search episode ends early, at -2 beta a layer not reached"
    )
    reward_images: int | None = Field(
        None, ge=1, le=10_000_000, description="images of the reward split that accuracy is measured on; null: all"
    )
    exact_target: bool = Field(True, description="scale the alphas so that the target sparsity is met exactly")
    retrain: Retrain = Field(Retrain(), description="the training after each cut")
    agent: Agent = Field(Agent(), description="the DQN's own settings")

    @model_validator(mode="before")
    @classmethod
    def _grid_of_the_criterion(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("criterion") == "magnitude_target":
            return {"alphas": SHARES, **given}
        return given

    @model_validator(mode="after")
    def _options_agree(self) -> Search:
        rising = all(low < high for low, high in pairwise(self.alphas))
        if self.alphas[0] < 0 or self.alphas[-1] > 100 or not rising:
            raise ValueError("alphas must rise strictly, from 0 or more to at most 100")
        if self.criterion == "magnitude_target" and self.alphas[-1] >= 1:
            raise ValueError("alphas are shares of a layer with magnitude_target: each must be below 1")
        if self.accuracy_floor is not None and not self.dense:
            raise ValueError("accuracy_floor needs dense: without it no accuracy is known before the last layer")
        return self

    def images_retrained(self, walks: Iterable[Sequence[Any]]) -> int:
        """Training images that these walks cost, each given by its steps. Without dense a walk trains once."""
        trainings = sum(len(steps) if self.dense else 1 for steps in walks)
        return trainings * self.retrain.epochs * self.retrain.images


Baseline = Literal["uniform", "global", "global-mt", "lamp", "erk"]


class Resources(Record):
    env_runners: int = Field(2, ge=1, le=1024, description="episodes played side by side")
    cpus_per_runner: float = Field(1, gt=0, le=1024, description="CPUs reserved for each")
    gpus_per_runner: float = Field(0, ge=0, le=64, description="GPUs (or a share of one) reserved for each")


class JobSpec(Record):
    """Everything a job is. The least body is {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}."""

    name: str | None = Field(None, max_length=200, description="yours to choose; not unique")
    labels: dict[Annotated[str, Field(max_length=63)], Annotated[str, Field(max_length=255)]] = Field(
        {}, max_length=32, description="yours to choose"
    )
    priority: int = Field(0, ge=-100, le=100, description="higher runs first")
    timeout_seconds: float | None = Field(None, gt=0, le=31_536_000, description="running time before the job fails")
    max_attempts: int = Field(3, ge=1, le=100, description="the same exception at the same place, so often, ends it")
    model: Model
    dataset: Dataset | None = Field(None, description="the model's own data set when left out")
    targets: Targets
    stages: tuple[float, ...] = Field(
        (),
        strict=False,
        max_length=100,
        description="rising sparsities up to the target, each with a search and a fine-tune of its own; none: one step",
    )
    search: Search = Search()
    fine_tune: FineTune = FineTune()
    baselines: tuple[Baseline, ...] = Field(
        ("global",), strict=False, max_length=16, description="the naive methods raced against the search"
    )
    minimum_threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="of global-mt: every layer keeps at least this share of ALL prunable weights, a smaller one all of "
        "its own; null: half of what the target keeps, divided evenly among the layers",
    )
    resources: Resources = Resources()
    seed: int = Field(0, ge=0, lt=2**31, description="with the spec it decides every random choice")

    @field_validator("stages")
    @classmethod
    def _rising_to_the_target(cls, stages: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        targets = info.data.get("targets")
        if not stages or targets is None:  # without valid targets there is an error already
            return stages
        if stages[0] <= 0 or not all(low < high for low, high in pairwise(stages)):
            raise ValueError("stages must rise strictly, from above 0")
        if stages[-1] != targets.sparsity:
            raise ValueError("the last of stages must equal targets.sparsity")
        # One stage is what a job without stages does: the same job has one fingerprint.
        return stages if len(stages) > 1 else ()

    @model_validator(mode="after")
    def _fields_agree(self) -> JobSpec:
        if len(set(self.baselines)) != len(self.baselines):
            raise ValueError("baselines: name each method once")
        if self.minimum_threshold is not None and "global-mt" not in self.baselines:
            raise ValueError("minimum_threshold is a setting of global-mt: name that in baselines, or leave it out")
        if self.resources.env_runners > self.search.lookahead:
            raise ValueError(
                f"resources.env_runners is {self.resources.env_runners} but search.lookahead is "
                f"{self.search.lookahead}: raise lookahead to at least the number of runners"
            )
        return self

    def resolve(self) -> JobSpec:
        """The same spec with the catalog's defaults filled in and every name known; raises with field and remedy."""
        model = catalog.model(self.model.name, at="/model/name")
        dataset = self.dataset or Dataset(name=model.dataset)
        catalog.dataset(dataset.name, at="/dataset/name")
        catalog.check_kwargs(model, self.model.kwargs, at="/model/kwargs")
        catalog.check_kwargs(catalog.dataset(dataset.name), dataset.kwargs, at="/dataset/kwargs")
        return self.model_copy(update={"dataset": dataset})

    @property
    def sparsities(self) -> tuple[float, ...]:
        """The target of each stage."""
        return self.stages or (self.targets.sparsity,)

    @property
    def data(self) -> Dataset:
        """The data set of a resolved spec."""
        if self.dataset is None:
            raise InvalidSpec("the data set is not resolved", at="/dataset", remedy="call resolve() first")
        return self.dataset

    @property
    def fingerprint(self) -> str:
        """sha256 of what the job computes. Fields at their default are left out, so a new field moves no old one."""
        said = self.model_dump(mode="json", exclude_defaults=True, exclude=set(NOT_IN_FINGERPRINT))
        canonical = json.dumps({"version": SPEC_VERSION, "spec": said}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
