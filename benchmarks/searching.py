"""Searches to measure: of landscapes by RLlib on a Ray of their own, and the demo's by the worker's own code.

Ray is imported only where it is used, so that its imports can be measured too.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from purlkit.results import Episode
from purlkit.spec import Agent, JobSpec
from tests.landscape import Landscape, LandscapeEnv

if TYPE_CHECKING:
    from workers.dqn import PurlDQN
    from workers.found import Found

SEED = 0


class WorkingEnv(LandscapeEnv):
    """A landscape whose steps multiply so many small matrices: arithmetic that wants a core of its own."""

    def __init__(self, landscape: Landscape, products: int) -> None:
        super().__init__(landscape)
        self._products = products

    def step(self, action: Any) -> Any:
        _multiply(self._products)
        return super().step(action)


def _multiply(products: int) -> None:
    matrix = np.full((128, 128), 1e-3, np.float32)
    for _ in range(products):
        np.matmul(matrix, matrix)


def products_in(seconds: float) -> int:
    """How many products this machine does in so many seconds: all that a row compares do the same number."""
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        _multiply(500)
        rates.append(500 / (time.perf_counter() - began))
    return round(statistics.median(rates) * seconds)


@contextmanager
def on_ray() -> Iterator[None]:
    from workers import cluster

    # Ray's workers import this checkout, wherever it was started from.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    cluster.quiet()
    with cluster.connected(""):
        yield


def built(landscape: Landscape, work: int, *, runners: int, episodes: int, lookahead: int = 2) -> PurlDQN:
    from ray.tune.registry import register_env

    from workers.dqn_config import dqn_config

    register_env("working", lambda config: WorkingEnv(config["landscape"], config["work"]))
    agent = Agent()
    config = {
        "landscape": landscape,
        "work": work,
        "agent": agent.model_dump(),
        "seed": SEED,
        "layers": landscape.layers,
        "episodes": episodes,
        "lookahead": lookahead,
    }
    steps = episodes * landscape.layers
    algorithm: PurlDQN = dqn_config(
        "working", config, agent, total_steps=steps, runners=runners, cpus=0.1, gpus=0, seed=SEED
    ).build_algo()
    while algorithm.runners.here < runners:
        algorithm.runners.wait(0.5)
    return algorithm


def play_on_ray(algorithm: PurlDQN) -> list[float]:
    """Plays to the end, and says when each episode was learnt from."""
    ends: list[float] = []
    while not algorithm.search_done:
        algorithm.train()
        ends += [time.monotonic()] * (len(algorithm.learnt.episodes) - len(ends))
    return ends


def own_memory(pid: int) -> float:
    """MiB that would be free if this process ended: shared libraries and Ray's object store are not its own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024


def demo_search(
    runners: int,
    *,
    episodes: int,
    on_trained: Callable[[], None] = lambda: None,
    on_episode: Callable[[Episode], None] = lambda _: None,
) -> Found:
    """The demo's search and its greedy walks, from a dense network that is trained here before Ray starts."""
    import torch

    from purlkit import checkpoint
    from purlkit.pruning.layers import prunable_layers
    from purlkit.pruning.masks import Mask
    from purlkit.seeds import derive
    from purlkit.spec import Training
    from purlkit.training.evaluate import accuracy
    from purlkit.training.loop import train
    from purlkit.zoo import datasets, models
    from workers import search
    from workers.holding import hold
    from workers.pulse import Pulse
    from workers.stages import Stage

    torch.set_num_threads(1)
    body = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}
    spec = JobSpec.model_validate(
        {**body, "search": {"episodes": episodes}, "resources": {"env_runners": runners}, "seed": SEED}
    ).resolve()
    splits = datasets.load(spec.data, Path(tempfile.gettempdir()))  # the images come with scikit-learn
    model = models.build_for(spec)
    train(model, splits.train, Training(), seed=derive(SEED, "dense"))
    stage = Stage(spec, 0, checkpoint.tensors_of(model), Mask.from_weights(prunable_layers(model)))
    target = accuracy(model, splits.reward)
    hooks = search.Hooks(on_episode=on_episode, on_state=lambda _: None, on_wait=lambda: None)
    on_trained()
    with on_ray():
        data, pulse = hold(splits, spec), Pulse(already=0)
        return search.search(stage, target_accuracy=target, data=data, saved=None, pulse=pulse, hooks=hooks)
