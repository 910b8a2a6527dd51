"""Who enters the race: PuRL's mean policy, its best episode, and the naive methods, each cut to exactly the target."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from purlkit import baselines
from purlkit.pruning.flops import Uses, cut_to_flops, share_removed
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from purlkit.pruning.policy import PolicyMask, mask_for_alphas, mean_alphas
from purlkit.results import Episode
from purlkit.spec import JobSpec
from workers.dense import Dense
from workers.found import Found
from workers.stages import Stage
from workers.tuning import Entrant


def mean_policy(stage: Stage, found: Found, uses: Uses | None = None) -> Entrant:
    """PRUNE(alpha_1) … PRUNE(alpha_T), each alpha the mean over the greedy walks, scaled to meet the stage's target."""
    alphas = mean_alphas((episode.actions for episode in found.greedy), stage.spec.search.alphas)
    return _entrant(stage, found, uses, "mean", alphas)


def best_episode(stage: Stage, found: Found, uses: Uses | None = None) -> Entrant | None:
    """The walk with the highest last reward, of equals the first: the best by the reward split.

    Its mask is made exact as the mean policy's is: its alphas cut the network that the walk started from, changed
    together until the target is met. None where every walk ended early.
    """
    whole = [episode for episode in found.episodes if len(episode.actions) == len(stage.layers)]
    if not whole:
        return None
    best = max(whole, key=lambda episode: episode.rewards[-1])
    return _entrant(stage, found, uses, "best", [stage.spec.search.alphas[action] for action in best.actions], best)


def _entrant(
    stage: Stage,
    found: Found,
    uses: Uses | None,
    variant: Literal["mean", "best"],
    alphas: Sequence[float],
    episode: Episode | None = None,
) -> Entrant:
    search = stage.spec.search
    if search.exact_target:
        policy = policy_at(stage.spec, stage.layers, uses, alphas, stage.target)
    else:
        policy = mask_for_alphas(stage.layers, alphas, target=None, criterion=search.criterion)
    mask = policy.mask & stage.mask
    said = [f"episode {episode.index}"] if episode else []
    return Entrant(
        method="purl",
        variant=variant,
        mask=mask,
        alphas=tuple(policy.alphas),
        note="; ".join([*said, *([policy.note] if policy.note else [])]) or None,
        images=stage.images + found.images,
        device_seconds=stage.device_seconds + found.device_seconds,
        tensors=stage.tensors if stage.number else None,
        flops=flops_of(stage.spec, mask, uses),
    )


def naive(name: str, spec: JobSpec, dense: Dense) -> Entrant:
    """A method that needs nothing but the weights."""
    options = {"minimum_threshold": spec.minimum_threshold} if name == "global-mt" else {}
    cut = partial(baselines.method(name), dense.layers, **options)
    mask = (
        cut(spec.target) if spec.goal == "sparsity" else cut_to_flops(cut, _same, dense.layers, dense.uses, spec.target)
    )
    return Entrant(name, None, mask, flops=flops_of(spec, mask, dense.uses))


def policy_at(
    spec: JobSpec, layers: Sequence[PrunableLayer], uses: Uses | None, alphas: Sequence[float], target: float
) -> PolicyMask:
    """A policy's alphas, changed together until the target is met: a sparsity, or a share of the multiply-adds."""

    def at(sparsity: float) -> PolicyMask:
        return mask_for_alphas(layers, alphas, target=sparsity, criterion=spec.search.criterion)

    if spec.goal == "sparsity" or uses is None:
        return at(target)
    return cut_to_flops(at, lambda policy: policy.mask, layers, uses, target)


def flops_of(spec: JobSpec, mask: Mask, uses: Uses | None) -> float | None:
    return share_removed(mask, uses) if spec.goal == "flops" and uses is not None else None


def _same(mask: Mask) -> Mask:
    return mask
