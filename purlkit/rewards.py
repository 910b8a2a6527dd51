"""What a step of the search earns. A is the accuracy now, P the share of all prunable weights pruned so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Reward = Callable[[float, float, float, float, float], float]


def capped(accuracy: float, sparsity: float, target_accuracy: float, target_sparsity: float, beta: float) -> float:
    """The paper's: -beta * (max(1 - A/T_A, 0) + max(1 - P/T_P, 0)); never above 0, and 0 once both targets are met."""
    return -beta * (_shortfall(accuracy, target_accuracy) + _shortfall(sparsity, target_sparsity)) + 0.0


def _shortfall(reached: float, target: float) -> float:
    # max_drop may take the accuracy target down to 0 or less: every network meets that.
    return max(1 - reached / target, 0.0) if target > 0 else 0.0


REWARDS: Mapping[str, Reward] = {"capped": capped}
