"""An episode as another target would have seen it: what was done and measured stays, the rewards are computed anew.

A reward is a function of accuracy, sparsity and targets, so an episode of the same network and the same retraining can
teach a search for any target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from purlkit.agent.replay import Floats, Step, steps_of
from purlkit.results import Episode
from purlkit.rewards import REWARDS, not_reached
from purlkit.spec import Search


def relabelled(
    episode: Episode,
    weights: Sequence[tuple[int, int]],
    search: Search,
    *,
    target_accuracy: float,
    target_sparsity: float,
) -> list[Step]:
    """The steps of an episode for these targets. `weights` has (not zero at the start, in all) of each layer."""
    targets, beta = (target_accuracy, target_sparsity), search.beta
    reward = REWARDS[search.reward]
    rewards = [reward(a, p, *targets, beta) for a, p in zip(episode.accuracies, episode.sparsities, strict=True)]
    to_come = len(weights) - len(episode.actions)
    if not search.dense:
        rewards[:-1] = [0.0] * (len(rewards) - 1)
    if to_come:
        rewards[-1] += not_reached(to_come, beta, search.agent.gamma)
    return steps_of(_observations(episode, weights, search), episode.actions, rewards, terminated=True)


def _observations(episode: Episode, weights: Sequence[tuple[int, int]], search: Search) -> Floats:
    n, total = len(weights), sum(size for _, size in weights)
    rows = np.zeros((len(episode.actions) + 1, 3 if search.state == "simple" else 2 * n), np.float32)
    # A step changes one layer alone, so the network's sparsities tell each layer's; as whole weights, so exactly.
    before = sum(size - alive for alive, size in weights)
    for i, (accuracy, sparsity) in enumerate(zip(episode.accuracies, episode.sparsities, strict=True)):
        if search.state == "simple":
            rows[i + 1] = (i + 1) / n, accuracy, sparsity
            continue
        alive, size = weights[i]
        now = round(sparsity * total)
        rows[i + 1 :, 2 * i : 2 * i + 2] = accuracy, (size - alive + now - before) / size
        before = now
    return rows
