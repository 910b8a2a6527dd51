"""Random search: as many random policies as the search had episodes, tried side by side, the best by the reward split.

What a policy is worth is found with the walk's own retraining and reward images, but once for the whole mask at exactly
the target: a policy costs one retraining, where a walk costs one for each layer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from torch import Tensor

from purlkit import checkpoint
from purlkit.baselines.random_policies import draw
from purlkit.baselines.scoring import by_reward_split
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.policy import PolicyMask, mask_for_alphas
from purlkit.seeds import derive
from purlkit.spec import JobSpec
from purlkit.zoo import datasets, models
from workers.dense import Dense
from workers.race import POLL_SECONDS, Track
from workers.tuning import Entrant

SAVED = "random"
Score = tuple[float, float]  # accuracy, seconds


class Scorer:
    """An actor with the dense network, the retraining subset and the reward images."""

    def __init__(self, spec_json: str, dense: dict[str, Tensor], datasets_dir: str, pulse: Any) -> None:
        self.spec = JobSpec.model_validate_json(spec_json)
        torch.set_num_threads(max(1, int(self.spec.resources.cpus_per_runner)))
        device = "cuda" if self.spec.resources.gpus_per_runner > 0 else "cpu"
        splits = datasets.load(self.spec.data, Path(datasets_dir), device=device).without_test()
        model = models.build_for(self.spec).to(device)
        checkpoint.load_into(model, dense)
        self.layers = prunable_layers(model)
        search = self.spec.search
        self.worth = by_reward_split(
            model,
            splits.with_reward_images(search.reward_images),
            search.retrain,
            seed=self.spec.seed,
            on_batch=lambda: pulse.tick.remote(),
        )

    def score(self, policy: Sequence[float]) -> Score:
        began = time.monotonic()
        reached = self.worth(mask_of(self.spec, self.layers, policy).mask)
        return reached, time.monotonic() - began


def mask_of(spec: JobSpec, layers: Sequence[PrunableLayer], policy: Sequence[float]) -> PolicyMask:
    return mask_for_alphas(layers, policy, target=spec.target, criterion=spec.search.criterion)


def best_of_random(track: Track, dense: Dense) -> Entrant:
    spec, search = track.spec, track.spec.search
    policies = list(draw(search.alphas, len(dense.layers), search.episodes, derive(spec.seed, "random")))
    content = track.saved(SAVED)
    scores: dict[int, Score] = {int(i): tuple(s) for i, s in json.loads(content).items()} if content else {}

    def on_score(index: int, score: Score) -> None:
        scores[index] = score
        track.save(SAVED, json.dumps(scores).encode())

    _score(track, {i: policy for i, policy in enumerate(policies) if i not in scores}, on_score)
    best = max(range(len(policies)), key=lambda index: (scores[index][0], -index))
    policy = mask_of(spec, dense.layers, policies[best])
    return Entrant(
        method="random",
        variant=None,
        mask=policy.mask,
        alphas=policy.alphas,
        note=f"policy {best} of {len(policies)}" + (f"; {policy.note}" if policy.note else ""),
        images=len(policies) * search.retrain.epochs * search.retrain.images,
        device_seconds=sum(seconds for _, seconds in scores.values()),
    )


def _score(track: Track, waiting: dict[int, Sequence[float]], on_score: Callable[[int, Score], None]) -> None:
    """Each policy by whichever scorer is free; a scorer that dies is started again and tries its policy again."""
    resources = track.spec.resources
    actor = ray.remote(
        num_cpus=resources.cpus_per_runner, num_gpus=resources.gpus_per_runner, max_restarts=3, max_task_retries=3
    )(Scorer)
    told = track.spec.model_dump_json(), track.dense, str(track.datasets_dir), track.pulse
    idle = [actor.remote(*told) for _ in range(min(resources.env_runners, len(waiting)))]
    busy: dict[Any, tuple[int, Any]] = {}
    while waiting or busy:
        while waiting and idle:
            index, scorer = min(waiting), idle.pop()
            busy[scorer.score.remote(waiting.pop(index))] = index, scorer
        track.on_wait()
        ready, _ = ray.wait(list(busy), num_returns=1, timeout=POLL_SECONDS)
        for reference in ready:
            index, scorer = busy.pop(reference)
            idle.append(scorer)
            on_score(index, ray.get(reference))
    for scorer in idle:
        ray.kill(scorer)
