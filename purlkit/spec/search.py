"""The search: the walk over the layers, its reward, and the agent that learns from it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

from pydantic import Field, model_validator

from purlkit.spec.record import Rate, Record, disagree
from purlkit.spec.training import Retrain


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
            raise disagree("each width must be from 1 to 4096", "/hidden")
        return self


# The paper's 12 actions; and as many for the other criterion, evenly spread up to nearly all of a layer.
DEVIATIONS = tuple(round(0.2 * i, 1) for i in range(12))
SHARES = tuple(round(0.09 * i, 2) for i in range(12))
# purl-budget's: what a layer keeps, times one of these. Small moves from a good start.
FACTORS = (0.6, 0.8, 1.0, 1.25, 1.6)

# Where purl-budget's defaults are others than PuRL's: docs/budget.md has the reasons.
BUDGET_DEFAULTS: dict[str, Any] = {"alphas": FACTORS, "dense": False, "greedy_episodes": 1}
BUDGET_RETRAIN: dict[str, Any] = {"epochs": 5}
BUDGET_AGENT: dict[str, Any] = {"gamma": 1.0}
# Options of PuRL's own walk, which mean nothing to the other.
ONLY_PURL = ("state", "criterion", "reward", "accuracy_floor", "exact_target", "warm_start")


class Search(Record):
    """The walk over the layers and the agent that learns from it: PuRL's, or purl-budget's at a fixed total.

    purl-budget's own defaults: alphas 0.6, 0.8, 1, 1.25, 1.6, no `dense`, one greedy episode, 5 epochs of retraining
    and gamma 1.
    """

    algorithm: Literal["purl", "purl-budget"] = Field(
        "purl",
        description="purl cuts layer after layer; purl-budget divides exactly what the target keeps among the layers",
    )
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
        description="the actions, in the criterion's unit; magnitude_target's default is 0, 0.09, …, 0.99; with "
        "purl-budget factors on what a layer keeps",
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
    warm_start: bool = Field(
        False,
        description="with several targets: begin with the episodes of the targets before in the replay, their rewards "
        "recomputed for this one",
    )
    retrain: Retrain = Field(Retrain(), description="the training after each cut")
    agent: Agent = Field(Agent(), description="the DQN's own settings")

    @model_validator(mode="before")
    @classmethod
    def _grid_of_the_criterion(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("criterion") == "magnitude_target":
            return {"alphas": SHARES, **given}
        return given

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_algorithm(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("algorithm") != "purl-budget":
            return given
        parts = {
            name: {**defaults, **part}
            for name, defaults in (("retrain", BUDGET_RETRAIN), ("agent", BUDGET_AGENT))
            if isinstance(part := given.get(name, {}), dict)
        }
        return {**BUDGET_DEFAULTS, **given, **parts}

    @model_validator(mode="after")
    def _options_agree(self) -> Search:
        if self.algorithm == "purl-budget":
            self._budget_options_agree()
        rising = all(low < high for low, high in pairwise(self.alphas))
        if self.alphas[0] < 0 or self.alphas[-1] > 100 or not rising:
            raise disagree("alphas must rise strictly, from 0 or more to at most 100", "/alphas")
        if self.criterion == "magnitude_target" and self.alphas[-1] >= 1:
            raise disagree(
                "alphas are shares of a layer with magnitude_target: each must be below 1", "/alphas", "/criterion"
            )
        if self.accuracy_floor is not None and not self.dense:
            raise disagree(
                "accuracy_floor needs dense: without it no accuracy is known before the last layer",
                "/accuracy_floor",
                "/dense",
            )
        return self

    def _budget_options_agree(self) -> None:
        for name in ONLY_PURL:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise disagree(f"{name} is an option of purl: leave it out with purl-budget", f"/{name}", "/algorithm")
        if self.alphas[0] == 0:
            raise disagree(
                "alphas are factors on what a layer keeps with purl-budget: each must be above 0",
                "/alphas",
                "/algorithm",
            )

    def images_retrained(self, trainings: int) -> int:
        """Training images that so many of the search's trainings cost."""
        return trainings * self.retrain.epochs * self.retrain.images
