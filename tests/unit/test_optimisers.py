"""Optimisers without torch's compiler: what they do is what torch's own do, and the compiler stays away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from purlkit.training.optimisers import SGD, Adam

ROOT = Path(__file__).parent.parent.parent

SETTINGS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True, "foreach": True},
    "Adam": {"lr": 0.01, "weight_decay": 1e-3, "foreach": True},
}


def trained_by(kind: type[Optimizer], settings: dict[str, Any]) -> Tensor:
    """After some steps, with the optimiser given up in the middle for another one that goes on from its state."""
    weights = torch.nn.Parameter(torch.linspace(-2, 2, 300))
    optimiser = kind([weights], **settings)
    for step in range(20):
        if step == 10:
            state = optimiser.state_dict()
            optimiser = kind([weights], **settings)
            optimiser.load_state_dict(state)
        optimiser.zero_grad()
        (weights.sin() ** 2).sum().backward()
        optimiser.step()
    return weights.detach()


@pytest.mark.parametrize(("ours", "torchs"), [(SGD, torch.optim.SGD), (Adam, torch.optim.Adam)])
def test_they_train_to_the_same_bits_as_torchs(ours: type[Optimizer], torchs: type[Optimizer]) -> None:
    settings = SETTINGS[ours.__name__]

    assert torch.equal(trained_by(ours, settings), trained_by(torchs, settings))


def test_a_process_that_trains_on_ray_loads_nothing_large_that_it_has_no_use_for() -> None:
    """A runner's and a fine-tuning's modules, a driver's learner, the digits, and a training with either optimiser."""
    code = """
import sys, workers.search, workers.tuning
from gymnasium.spaces import Box, Discrete
from purlkit.spec import Agent
from purlkit.zoo import datasets
from workers.dqn_config import dqn_config
from purlkit.training.optimisers import SGD, Adam
from tests.unit.test_optimisers import SETTINGS, trained_by
datasets.digits("")
spaces = {"default_policy": (Box(0, 1, (4,)), Discrete(2))}
dqn_config("", {}, Agent(), total_steps=9, runners=1, cpus=1, gpus=0, seed=1).build_learner(spaces=spaces)
for kind in (SGD, Adam):
    trained_by(kind, SETTINGS[kind.__name__])
print([name for name in ("torch._dynamo", "torchvision", "sklearn") if name in sys.modules])
"""

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert loaded.stdout.strip() == "[]"
