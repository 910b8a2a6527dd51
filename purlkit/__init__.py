"""Prune neural networks by fast reinforcement learning. Importing this loads no torch: names come when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from purlkit.agent.search import search
    from purlkit.baselines.global_magnitude import global_magnitude
    from purlkit.baselines.prune import prune
    from purlkit.checkpoint import load
    from purlkit.env import PruningEnv
    from purlkit.pruning.layers import prunable_layers
    from purlkit.pruning.masks import Mask
    from purlkit.results import Result
    from purlkit.spec import JobSpec

__all__ = ["JobSpec", "Mask", "PruningEnv", "Result", "global_magnitude", "load", "prunable_layers", "prune", "search"]

_HOME = {
    "JobSpec": "purlkit.spec",
    "Mask": "purlkit.pruning.masks",
    "PruningEnv": "purlkit.env",
    "Result": "purlkit.results",
    "global_magnitude": "purlkit.baselines.global_magnitude",
    "load": "purlkit.checkpoint",
    "prunable_layers": "purlkit.pruning.layers",
    "prune": "purlkit.baselines.prune",
    "search": "purlkit.agent.search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
