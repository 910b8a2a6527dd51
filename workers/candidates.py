"""Who enters the race: PuRL's mean policy, its best episode, and the naive methods, each cut to exactly the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from purlkit import baselines
from purlkit.pruning.policy import mask_for_alphas, mean_alphas
from purlkit.results import Episode
from purlkit.spec import JobSpec
from workers.dense import Dense
from workers.search import Found
from workers.stages import Stage
from workers.tuning import Entrant


def mean_policy(stage: Stage, found: Found) -> Entrant:
    """PRUNE(alpha_1) … PRUNE(alpha_T), each alpha the mean over the greedy walks, scaled to meet the stage's target."""
    alphas = mean_alphas((episode.actions for episode in found.greedy), stage.spec.search.alphas)
    return _entrant(stage, found, "mean", alphas)


def best_episode(stage: Stage, found: Found) -> Entrant | None:
    """The walk with the highest last reward, of equals the first: the best by the reward split.

    Its mask is made exact as the mean policy's is: its alphas cut the network that the walk started from, changed
    together until the target is met. None where every walk ended early.
    """
    whole = [episode for episode in found.episodes if len(episode.actions) == len(stage.layers)]
    if not whole:
        return None
    best = max(whole, key=lambda episode: episode.rewards[-1])
    return _entrant(stage, found, "best", [stage.spec.search.alphas[action] for action in best.actions], best)


def _entrant(
    stage: Stage,
    found: Found,
    variant: Literal["mean", "best"],
    alphas: Sequence[float],
    episode: Episode | None = None,
) -> Entrant:
    search = stage.spec.search
    target = stage.target if search.exact_target else None
    policy = mask_for_alphas(stage.layers, alphas, target=target, criterion=search.criterion)
    said = [f"episode {episode.index}"] if episode else []
    return Entrant(
        method="purl",
        variant=variant,
        mask=policy.mask & stage.mask,
        alphas=tuple(policy.alphas),
        note="; ".join([*said, *([policy.note] if policy.note else [])]) or None,
        images=stage.images + found.images,
        device_seconds=stage.device_seconds + found.device_seconds,
        tensors=stage.tensors if stage.number else None,
    )


def naive(name: str, spec: JobSpec, dense: Dense) -> Entrant:
    """A method that needs nothing but the weights."""
    options = {"minimum_threshold": spec.minimum_threshold} if name == "global-mt" else {}
    return Entrant(name, None, baselines.method(name)(dense.layers, spec.target, **options))
