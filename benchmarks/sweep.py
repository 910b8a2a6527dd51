"""The defaults that the paper leaves open, measured: one setting at a time, the others as they are.

    python -m benchmarks.sweep landscape            the agent's settings, where the best policy is known
    python -m benchmarks.sweep landscape --layers 20 --seeds 5
    python -m benchmarks.sweep digits --seeds 2     beta and the rate of retraining, by what comes of the demo's job

A landscape's score is the trained policy's return over beta and layers: 0 is the optimum, and the mean of policies
that choose at random is printed beside it. A score on digits is the accuracy on the select split after pruning to 90 %
and the job's fine-tuning. Each value is told with the mean's standard error over the seeds, which are those of all.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from purlkit.agent.search import play, search
from purlkit.seeds import derive
from purlkit.spec import FineTune, JobSpec, Search, Training
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train
from purlkit.zoo import datasets, models
from tests.landscape import Landscape, LandscapeEnv

Change = dict[str, Any]

LANDSCAPE: Mapping[str, Sequence[Change]] = {
    "learning rate": [{"agent": {"learning_rate": rate}} for rate in (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)],
    "width": [{"agent": {"hidden": [width, width]}} for width in (16, 32, 64, 128, 256)],
    "batch": [{"agent": {"batch_size": size}} for size in (8, 16, 32, 64, 128)],
    "final epsilon": [{"agent": {"final_epsilon": epsilon}} for epsilon in (0.0, 0.02, 0.05, 0.1, 0.2)],
    "beta": [{"beta": beta} for beta in (0.1, 0.3, 1.0, 3.0, 10.0)],
}
DIGITS: Mapping[str, Sequence[Change]] = {
    "beta": [{"beta": beta} for beta in (0.3, 1.0, 3.0)],
    "retraining rate": [{"retrain": {"learning_rate": rate}} for rate in (0.005, 0.02, 0.05)],
}


class Scaled(LandscapeEnv):
    """Rewards times beta, as the walk's are."""

    def __init__(self, landscape: Landscape, beta: float) -> None:
        super().__init__(landscape)
        self._beta = beta

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        self.walk = replace(self.walk, rewards=(*self.walk.rewards[:-1], reward * self._beta))
        return observation, reward * self._beta, *rest


def on_landscape(change: Change, layers: int, seed: int) -> float:
    settings = Search.model_validate({"greedy_episodes": 1, **change})
    _, [greedy] = play(Scaled(Landscape(layers=layers), settings.beta), settings, seed=seed)
    return sum(greedy.rewards) / settings.beta / layers


def by_chance(layers: int, policies: int = 1000) -> float:
    landscape, generator = Landscape(layers=layers), random.Random(0)
    distances = [abs(generator.randrange(landscape.actions) - best) for _ in range(policies) for best in landscape.best]
    return -statistics.mean(distances) / (landscape.actions - 1)


def on_digits(change: Change, seed: int) -> float:
    """The demo's job in one process: search, prune exactly to the target, fine-tune."""
    body = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}
    job = JobSpec.model_validate({**body, "search": change, "seed": seed}).resolve()
    splits = datasets.load(job.data, Path(tempfile.gettempdir()))  # the images come with scikit-learn
    model = models.build_for(job)
    train(model, splits.train, Training(), seed=derive(seed, "dense"))
    found = search(model, splits, sparsity=0.9, settings=job.search, seed=seed)
    found.apply(model)
    train(model, splits.train, FineTune(), seed=derive(seed, "fine-tune"), mask=found.mask)
    return accuracy(model, splits.select)


def sweep(settings: Mapping[str, Sequence[Change]], score: Callable[[Change, int], float], seeds: int) -> None:
    known: dict[str, list[float]] = {}
    for name, changes in settings.items():
        for change in changes:
            told = Search.model_validate(change).model_dump_json(exclude_defaults=True)
            if told not in known:  # every setting's default is the same search
                known[told] = [score(change, seed) for seed in range(seeds)]
            scores = known[told]
            error = statistics.stdev(scores) / math.sqrt(seeds) if seeds > 1 else math.nan
            is_default = "  default" if Search.model_validate(change) == Search() else ""
            print(
                f"{name:15} {value_of(change)!s:12} {statistics.mean(scores):8.4f} ± {error:.4f}{is_default}",
                flush=True,
            )


def value_of(change: Change) -> Any:
    """The one value that a change says."""
    [value] = change.values()
    return value_of(value) if isinstance(value, dict) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", choices=["landscape", "digits"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--layers", type=int, default=10, help="of the landscape")
    parser.add_argument("--only", help="one setting by its name")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    settings = LANDSCAPE if asked.where == "landscape" else DIGITS
    if asked.only is not None:
        settings = {asked.only: settings[asked.only]}
    if asked.where == "landscape":
        print(
            f"{asked.layers} layers, {asked.seeds} seeds; the mean of random policies is {by_chance(asked.layers):.4f}"
        )
        sweep(settings, lambda change, seed: on_landscape(change, asked.layers, seed), asked.seeds)
    else:
        sweep(settings, on_digits, asked.seeds)


if __name__ == "__main__":
    main()
