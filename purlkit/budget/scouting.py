"""What a budget search knows before its first episode: the naive allocations, and walks that lead to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from purlkit import baselines
from purlkit.agent.replay import Step, steps_of
from purlkit.budget.allocation import Allocation, allocation_of
from purlkit.budget.env import BudgetEnv
from purlkit.errors import PurlError
from purlkit.pruning.layers import PrunableLayer

NAIVE = ("lamp", "global", "global-mt", "erk", "uniform")


@dataclass(frozen=True)
class Scouted:
    """The naive allocations with their losses, best first. The best is where the search begins."""

    naive: tuple[tuple[Allocation, float], ...]

    @property
    def origin(self) -> Allocation:
        return self.naive[0][0]


def naive_allocations(layers: Sequence[PrunableLayer], sparsity: float) -> dict[Allocation, str]:
    """Each different one, with the name of the first method that gives it. One that would empty a layer is left out."""
    found: dict[Allocation, str] = {}
    for name in NAIVE:
        try:
            mask = baselines.method(name)(layers, sparsity)
        except PurlError:
            continue
        found.setdefault(allocation_of(mask, layers), name)
    return found


def scout(env: BudgetEnv) -> tuple[Scouted, list[Step]]:
    """Lets the walk begin at the best naive allocation, and walks from there towards each of the others.

    The steps are for the agent to remember; they cost what others do.
    """
    naive = naive_allocations(env.layers, env.target_sparsity)
    losses = [(allocation, env.yardstick(allocation, env.retrain_seed).loss) for allocation in naive]
    scouted = Scouted(tuple(sorted(losses, key=lambda each: each[1])))
    env.origin = scouted.origin
    return scouted, [step for allocation, _ in scouted.naive[1:] for step in _towards(env, allocation)]


def _towards(env: BudgetEnv, there: Allocation) -> list[Step]:
    observation, _ = env.reset()
    observations, ended = [observation], False
    while not ended:
        index = len(env.walk.actions)
        wanted = max(there[index], 1) / max(env.allocation[index], 1)
        distances = np.abs(np.log(env.search.alphas) - np.log(wanted))
        observation, _, ended, _, _ = env.step(int(distances.argmin()))
        observations.append(observation)
    return steps_of(np.stack(observations), env.walk.actions, env.walk.rewards, terminated=True)
