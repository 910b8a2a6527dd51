"""The search: parallel walks over the network on RLlib's env runners, each with a copy of the model of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from ray.tune.registry import register_env

from purlkit import checkpoint, env
from purlkit.agent.replay import Step
from purlkit.budget import env as budget_env
from purlkit.budget.allocation import Allocation
from purlkit.budget.env import BudgetEnv
from purlkit.budget.yardstick import entries_in
from purlkit.env import PruningEnv
from purlkit.pruning.masks import Mask
from purlkit.results import Episode
from purlkit.spec import JobSpec, Search
from purlkit.training.data import subset
from purlkit.zoo import models
from workers import searchstate
from workers.dqn import PurlDQN
from workers.dqn_config import dqn_config
from workers.found import Found
from workers.pulse import Pulse
from workers.stages import Stage

ENV_NAME = "purl-walk"
TICK_SECONDS = 5.0  # between two signs of life in the middle of a step; runners are given minutes


class Watched(gymnasium.Env[Any, Any]):
    """A walk with every finished step counted where the driver can see it, and signs of life in between."""

    def __init__(self, *, pulse: Any, runner: int, **kwargs: Any) -> None:
        super().__init__(**kwargs, on_batch=self._tick_now_and_then)  # type: ignore[call-arg]  # the walk's own
        self._pulse = pulse
        self._runner = runner
        self._ticked_at = time.monotonic()

    def step(self, action: Any) -> Any:
        result = super().step(action)
        self._tick()
        return result

    def _tick(self) -> None:
        self._pulse.tick.remote(self._runner, _gpu_bytes())
        self._ticked_at = time.monotonic()

    def _tick_now_and_then(self) -> None:
        if time.monotonic() - self._ticked_at > TICK_SECONDS:
            self._tick()


class WatchedWalk(Watched, PruningEnv):
    pass


class WatchedBudget(Watched, BudgetEnv):
    pass


def _gpu_bytes() -> int:
    """What torch has taken here at most; a CUDA context's some hundred megabytes are not among them."""
    return torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0


class OnlySpaces(gymnasium.Env[Any, Any]):
    """What RLlib's own runner in the driver has instead of a model: nothing is ever played there."""

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it so

    def __init__(self, search: Search, layers: int) -> None:
        of = env.spaces if search.algorithm == "purl" else budget_env.spaces
        self.observation_space, self.action_space = of(search, layers)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed, options=options)
        return np.zeros(self.observation_space.shape or (), np.float32), {}


def make_env(config: Any) -> gymnasium.Env[Any, Any]:
    """Runs inside an env runner: a model copy and the two splits that the search may see."""
    spec = JobSpec.model_validate_json(config["spec"])
    if config.worker_index == 0:
        return OnlySpaces(spec.search, config["layers"])
    # More threads than reserved CPUs only wait for each other; OMP_NUM_THREADS is what Ray itself would set.
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_runner)))
    device = "cuda" if spec.resources.gpus_per_runner > 0 else "cpu"
    if device == "cuda":
        keep_to_share(ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0))
    search = spec.search
    splits = ray.get(config["data"]).to(device)
    model = models.build_for(spec).to(device)
    tensors, keep = ray.get(config["start"])
    checkpoint.load_into(model, tensors)
    common = {
        "pulse": config["pulse"],
        "runner": config.worker_index,
        "model": model,
        "subset": subset(splits.train, search.retrain.images, spec.seed),
        "reward_images": splits.reward,
        "search": search,
        "target_sparsity": config["target_sparsity"],
        "mask": Mask(keep),
        "retrain_seed": 0,  # every episode brings its own
    }
    cache = spec.resources.cache_bytes
    if search.algorithm == "purl-budget":
        return WatchedBudget(**common, origin=config["origin"], remembered=entries_in(cache, config["layers"]))
    return WatchedWalk(**common, target_accuracy=config["target_accuracy"], goal=spec.goal, cache_bytes=cache)


def keep_to_share(gpus: float) -> None:
    """Ray counts shares of a GPU and does not hold anybody to them: one that takes more would break its neighbours."""
    if gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus)


@dataclass
class Hooks:
    """What the search tells its caller."""

    on_episode: Callable[[Episode], None]
    on_state: Callable[[bytes], None]
    on_wait: Callable[[], None]  # may raise to stop


def search(
    stage: Stage,
    *,
    target_accuracy: float,
    data: Any,
    saved: bytes | None,
    pulse: Pulse,
    hooks: Hooks,
    memory: Sequence[Step] = (),
    origin: Allocation = (),
) -> Found:
    """Plays the asked-for episodes, from where an earlier attempt left off, then lets the trained policy play.

    `data` are the splits in Ray's store. `memory` is what the replay holds at the beginning; `origin` is where
    purl-budget begins.
    """
    register_env(ENV_NAME, make_env)
    spec = stage.spec
    algorithm = _build(stage, pulse, target_accuracy, data, origin)
    try:
        for step in memory:
            algorithm.replay.add(step)
        if saved is not None:
            searchstate.restore(algorithm, saved)
        _play(algorithm, hooks)
        began = time.monotonic()
        greedy = algorithm.play_greedy(spec.search.greedy_episodes, on_wait=hooks.on_wait)
        for episode in greedy:
            hooks.on_episode(episode)
        seconds = algorithm.learnt.seconds + time.monotonic() - began
        # What the method asks for. How much of it the caches spare depends on runners and interruptions, and a result
        # must not: `search_steps_computed` tells of that.
        walks = [*algorithm.learnt.episodes, *greedy]
        trainings = sum(len(walk.actions) if spec.search.dense else 1 for walk in walks)
        return Found(algorithm.learnt.episodes, greedy, seconds, spec.search.images_retrained(trainings))
    finally:
        algorithm.stop()


def _build(stage: Stage, pulse: Pulse, target_accuracy: float, data: Any, origin: Allocation) -> PurlDQN:
    spec, search, layers = stage.spec, stage.spec.search, len(stage.mask.keep)
    env_config = {
        "spec": spec.model_dump_json(),
        "start": ray.put((stage.tensors, dict(stage.mask.keep))),
        "data": data,
        "target_accuracy": target_accuracy,
        "target_sparsity": stage.target,
        "origin": origin,
        "pulse": pulse.actor,
        "agent": search.agent.model_dump(),
        "seed": stage.seed,
        "layers": layers,
        "episodes": search.episodes,
        "lookahead": search.lookahead,
    }
    config = dqn_config(
        ENV_NAME,
        env_config,
        search.agent,
        total_steps=search.episodes * layers,
        runners=spec.resources.env_runners,
        cpus=spec.resources.cpus_per_runner,
        gpus=spec.resources.gpus_per_runner,
        seed=stage.seed,
    )
    algorithm: PurlDQN = config.build_algo()
    algorithm.life = pulse
    return algorithm


def _play(algorithm: PurlDQN, hooks: Hooks) -> None:
    reported, kept = len(algorithm.learnt.episodes), algorithm.schedule.played
    before, began = algorithm.learnt.seconds, time.monotonic()
    while not algorithm.search_done:
        hooks.on_wait()
        algorithm.train()
        algorithm.learnt.seconds = before + time.monotonic() - began
        learnt = algorithm.learnt.episodes[reported:]
        for episode in learnt:
            hooks.on_episode(episode)
        reported += len(learnt)
        # One that is not learnt from yet is played all the same. Of a backlog the end is saved and not every turn.
        if algorithm.schedule.played > kept or (learnt and not algorithm.schedule.can_commit):
            kept = algorithm.schedule.played
            hooks.on_state(searchstate.dump(algorithm))
