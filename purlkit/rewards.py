"""What a step of the search earns. A is the accuracy now, P the share of all prunable weights pruned so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Reward = Callable[[float, float, float, float, float], float]


def capped(accuracy: float, sparsity: float, target_accuracy: float, target_sparsity: float, beta: float) -> float:
    """The paper's: -beta * (max(1 - A/T_A, 0) + max(1 - P/T_P, 0)); never above 0, and 0 once both targets are met."""
    return -beta * (_shortfall(accuracy, target_accuracy) + _shortfall(sparsity, target_sparsity)) + 0.0


def upside(accuracy: float, sparsity: float, target_accuracy: float, target_sparsity: float, beta: float) -> float:
    """The paper's R2, without the cap on accuracy: beta * ((A/T_A - 1) - max(1 - P/T_P, 0)).

    Its equations 4 and 5 as printed give more accuracy the sign of a penalty; the prose says that going above the
    target is rewarded. This follows the prose, here and in `cubic`.
    """
    return beta * (_excess(accuracy, target_accuracy, 1) - _shortfall(sparsity, target_sparsity))


def cubic(accuracy: float, sparsity: float, target_accuracy: float, target_sparsity: float, beta: float) -> float:
    """The paper's R3, steeper the more accuracy there is: beta * (((A/T_A)^3 - 1) - max(1 - P/T_P, 0))."""
    return beta * (_excess(accuracy, target_accuracy, 3) - _shortfall(sparsity, target_sparsity))


def not_reached(layers: int, beta: float, gamma: float) -> float:
    """Added to the last reward of a walk that ends so many layers early: -2 beta for each of them, discounted.

    Every capped reward is negative and the worst is -2 beta, so without this an early end would be the best policy.
    """
    return sum(-2 * beta * gamma**later for later in range(1, layers + 1)) + 0.0


def _shortfall(reached: float, target: float) -> float:
    # max_drop may take the accuracy target down to 0 or less: every network meets that.
    return max(1 - reached / target, 0.0) if target > 0 else 0.0


def _excess(reached: float, target: float, power: int) -> float:
    # A ratio to a target of nothing says nothing.
    return (reached / target) ** power - 1 if target > 0 else 0.0


REWARDS: Mapping[str, Reward] = {"capped": capped, "upside": upside, "cubic": cubic}
