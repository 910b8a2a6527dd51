"""purl-budget in one process: the search that the cluster runs, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from purlkit.agent.search import OnEpisode, play
from purlkit.budget.allocation import Allocation
from purlkit.budget.env import BudgetEnv
from purlkit.budget.halving import BEST_SEEN, best_seen, halve, trainings
from purlkit.budget.scouting import NAIVE, Scouted, scout
from purlkit.budget.yardstick import Yardstick
from purlkit.pruning.masks import Mask
from purlkit.results import Episode
from purlkit.seeds import derive
from purlkit.spec import Retrain, Search
from purlkit.training.data import Samples, Splits, splits_of, subset

# The trainings that choose among the best allocations are so much longer than those that found them.
LONGER = 2

YardstickOf = Callable[[nn.Module, Samples, Samples, Retrain], Yardstick]


@dataclass(frozen=True, eq=False)
class BudgetResult:
    """What a search found at exactly its target, and what it looked at on the way."""

    mask: Mask
    allocation: Allocation
    scouted: Scouted
    episodes: list[Episode]
    greedy: list[Episode]
    evaluations: int  # different allocations that the search trained, naive ones and demonstrations among them
    images: int  # trained on, the last choice included
    seconds: float


def search(
    model: nn.Module,
    data: Splits | tuple[Tensor, Tensor],
    *,
    sparsity: float,
    settings: Search | None = None,
    seed: int = 0,
    on_episode: OnEpisode | None = None,
    yardstick: YardstickOf = Yardstick,
) -> BudgetResult:
    """Learns how to divide what `sparsity` leaves among the layers of a trained network, in this process.

    `data` is a `Splits`, or a pair (images, classes) of which a fifth drives the reward. The network is left as it
    came. `yardstick` makes what allocations are measured by.
    """
    splits = splits_of(data).to(next(model.parameters()).device)
    if settings is None:
        settings = default_settings(splits.train)
    images = subset(splits.train, settings.retrain.images, seed)
    reward_images = splits.with_reward_images(settings.reward_images).reward
    began = time.monotonic()
    env = BudgetEnv(
        model, images, reward_images, search=settings, target_sparsity=sparsity, retrain_seed=derive(seed, "retrain")
    )
    env.yardstick = yardstick(model, images, reward_images, settings.retrain)
    scouted, memory = scout(env)
    walks, greedy = play(env, settings, seed=seed, on_episode=on_episode, memory=memory)

    last = yardstick(model, images, reward_images, longer(settings.retrain))
    allocation = halve(
        finalists(scouted, walks, greedy),
        lambda field, rung: last.losses(field, derive(seed, "halving", rung)),
    )
    return BudgetResult(
        mask=env.yardstick.mask_of(allocation),
        allocation=allocation,
        scouted=scouted,
        episodes=walks,
        greedy=greedy,
        evaluations=env.yardstick.trained,
        images=settings.images_retrained(env.yardstick.trained + LONGER * last.trained),
        seconds=time.monotonic() - began,
    )


def default_settings(train: Samples) -> Search:
    images = min(Retrain().images, len(train))
    return Search.model_validate({"algorithm": "purl-budget", "retrain": {"images": images}})


def longer(retrain: Retrain) -> Retrain:
    return retrain.model_copy(update={"epochs": LONGER * retrain.epochs})


def finalists(scouted: Scouted, walks: Iterable[Episode], greedy: Iterable[Episode]) -> list[Allocation]:
    """The best of what was seen, the trained policy's own walks and the naive allocations: each once."""
    seen = [(episode.kept, episode.loss) for episode in walks if episode.loss is not None]
    own = [episode.kept for episode in greedy if episode.loss is not None]
    return list(dict.fromkeys([*best_seen(seen), *own, *(allocation for allocation, _ in scouted.naive)]))


def trainings_beside(greedy: int) -> int:
    """How many of the search's short trainings go to the naive allocations, the walks there and the halving."""
    naive = len(NAIVE)
    return naive + (naive - 1) + LONGER * trainings(BEST_SEEN + greedy + naive)
