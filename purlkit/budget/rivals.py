"""Searches that learn no policy, over the same allocations at the same number of evaluations: what a DQN is held to."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from purlkit.budget.allocation import Allocation, Budget, log_shares

Loss = Callable[[Allocation], float]


@dataclass
class Seen:
    """Every allocation that was measured, in order, up to so many different ones."""

    loss: Loss
    most: int
    losses: dict[Allocation, float] = field(default_factory=dict)

    @property
    def spent(self) -> bool:
        return len(self.losses) >= self.most

    def measure(self, allocation: Allocation) -> float:
        """One seen before costs nothing. Once all is spent a new one is worth nothing."""
        if allocation not in self.losses:
            if self.spent:
                return math.inf
            self.losses[allocation] = self.loss(allocation)
        return self.losses[allocation]

    @property
    def best(self) -> Allocation:
        return min(self.losses, key=lambda allocation: self.losses[allocation])


Rival = Callable[[Budget, Allocation, Sequence[float], Seen, int], None]
# A space may hold fewer allocations than there is to spend: then no try finds a new one.
PATIENCE = 1000


def random_walks(budget: Budget, start: Allocation, factors: Sequence[float], seen: Seen, seed: int) -> None:
    """Random actions for every layer, each walk from the start."""
    _walks(budget, lambda: start, factors, seen, seed)


def hill_climb(budget: Budget, start: Allocation, factors: Sequence[float], seen: Seen, seed: int) -> None:
    """Random actions for every layer, each walk from the best allocation so far: the search without its agent."""
    seen.measure(start)
    _walks(budget, lambda: seen.best, factors, seen, seed)


def _walks(budget: Budget, start: Callable[[], Allocation], factors: Sequence[float], seen: Seen, seed: int) -> None:
    choose, tries = random.Random(seed), 0
    while not seen.spent and tries < PATIENCE:
        allocation = start()
        for layer in range(len(allocation)):
            allocation = budget.move(allocation, layer, choose.choice(factors))
        tries = tries + 1 if allocation in seen.losses else 0
        seen.measure(allocation)


def cma_es(budget: Budget, start: Allocation, factors: Sequence[float], seen: Seen, seed: int) -> None:
    """Hansen's CMA-ES over the logarithms of the layers' shares, from the start, with his default settings.

    Its first step is as wide as a random action's is in the logarithm.
    """
    drawn, n, tries = np.random.default_rng(seed), len(start), 0
    sigma = float(np.std(np.log(factors)))
    population = 4 + int(3 * math.log(n))
    parents = population // 2
    weights = math.log(parents + 0.5) - np.log(np.arange(1, parents + 1))
    weights /= weights.sum()
    effective = 1 / float((weights**2).sum())
    c_sigma = (effective + 2) / (n + effective + 5)
    damping = 1 + 2 * max(0.0, math.sqrt((effective - 1) / (n + 1)) - 1) + c_sigma
    c_path = (4 + effective / n) / (n + 4 + 2 * effective / n)
    c_one = 2 / ((n + 1.3) ** 2 + effective)
    c_parents = min(1 - c_one, 2 * (effective - 2 + 1 / effective) / ((n + 2) ** 2 + effective))
    usual = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))

    mean, covariance = np.array(log_shares(start)), np.eye(n)
    path, sigma_path, generation = np.zeros(n), np.zeros(n), 0
    while not seen.spent and tries < PATIENCE:
        before, generation = len(seen.losses), generation + 1
        values, axes = np.linalg.eigh(covariance)
        spread = np.sqrt(np.maximum(values, 1e-20))
        steps = (drawn.standard_normal((population, n)) * spread) @ axes.T
        losses = [seen.measure(budget.divided(list(mean + sigma * step))) for step in steps]
        tries = tries + 1 if len(seen.losses) == before else 0
        best = steps[np.argsort(losses, kind="stable")[:parents]]
        step = weights @ best
        mean = mean + sigma * step
        sigma_path = (1 - c_sigma) * sigma_path + math.sqrt(c_sigma * (2 - c_sigma) * effective) * (
            axes @ ((axes.T @ step) / spread)
        )
        length = float(np.linalg.norm(sigma_path))
        straight = length / math.sqrt(1 - (1 - c_sigma) ** (2 * generation)) < (1.4 + 2 / (n + 1)) * usual
        path = (1 - c_path) * path + straight * math.sqrt(c_path * (2 - c_path) * effective) * step
        covariance = (
            (1 - c_one - c_parents) * covariance
            + c_one * (np.outer(path, path) + (not straight) * c_path * (2 - c_path) * covariance)
            + c_parents * (best.T * weights) @ best
        )
        sigma *= math.exp((c_sigma / damping) * (length / usual - 1))


RIVALS: Mapping[str, Rival] = {"random": random_walks, "hill-climb": hill_climb, "cma-es": cma_es}
