"""Random search: as many random policies as the search had episodes, tried side by side, the best by the reward split.

What a policy is worth is found with the walk's own retraining and reward images, but once for the whole mask at exactly
the target: a policy costs one retraining, where a walk costs one for each layer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from purlkit.startup import loading

with loading():  # a Ray worker's first task begins here
    import torch
    from torch import Tensor

from purlkit import checkpoint
from purlkit.baselines.random_policies import draw
from purlkit.baselines.scoring import by_reward_split
from purlkit.errors import Diverged
from purlkit.pruning.cost import weight_uses
from purlkit.pruning.layers import prunable_layers
from purlkit.seeds import derive
from purlkit.spec import DEVIATIONS, JobSpec
from purlkit.training.data import Splits
from purlkit.zoo import models
from workers.candidates import flops_of, policy_at
from workers.dense import Dense
from workers.race import POLL_SECONDS, Track
from workers.tuning import Entrant

SAVED = "random"
PORTIONS = 4  # for each runner, so that none waits long for another
DIVERGED = -1.0  # worse than any accuracy
Score = tuple[float, float]  # accuracy, seconds


def scores_of(
    spec_json: str, dense: dict[str, Tensor], policies: Mapping[int, Sequence[float]], data: Splits, pulse: Any
) -> dict[int, Score]:
    """Runs as a Ray task: what each of some policies is worth."""
    spec = JobSpec.model_validate_json(spec_json)
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_runner)))
    device = "cuda" if spec.resources.gpus_per_runner > 0 else "cpu"
    splits = data.to(device)
    model = models.build_for(spec).to(device)
    checkpoint.load_into(model, dense)
    layers = prunable_layers(model)
    worth = by_reward_split(
        model,
        splits,
        spec.search.retrain,
        seed=spec.seed,
        on_batch=lambda: pulse.tick.remote(),
    )
    scores, uses = {}, weight_uses(model, splits.train[:1].x)
    for index, policy in policies.items():
        began = time.monotonic()
        try:
            reached = worth(policy_at(spec, layers, uses, policy, spec.target).mask)
        except Diverged:  # this policy's misfortune, not the job's
            reached = DIVERGED
        scores[index] = reached, time.monotonic() - began
    return scores


def best_of_random(track: Track, dense: Dense) -> Entrant:
    spec, search = track.spec, track.spec.search
    grid = search.alphas if search.algorithm == "purl" else DEVIATIONS  # the other's are factors
    policies = list(draw(grid, len(dense.layers), search.episodes, derive(spec.seed, "random")))
    scores = _scores(track, policies)
    best = best_of(scores)
    policy = policy_at(spec, dense.layers, dense.uses, policies[best], spec.target)
    return Entrant(
        method="random",
        variant=None,
        mask=policy.mask,
        alphas=policy.alphas,
        note=f"policy {best} of {len(policies)}" + (f"; {policy.note}" if policy.note else ""),
        images=len(policies) * search.retrain.epochs * search.retrain.images,
        device_seconds=sum(seconds for _, seconds in scores.values()),
        flops=flops_of(spec, policy.mask, dense.uses),
    )


def best_of(scores: Mapping[int, Score]) -> int:
    """Of equally good ones the first."""
    best = max(scores, key=lambda index: (scores[index][0], -index))
    if scores[best][0] == DIVERGED:
        raise Diverged(
            f"the retraining diverged under each of {len(scores)} random policies",
            at="/search/retrain/learning_rate",
            remedy="lower it, or leave random out of baselines",
        )
    return best


def _scores(track: Track, policies: Sequence[Sequence[float]]) -> dict[int, Score]:
    """Of every policy, in portions that are saved as they end."""
    content = track.saved(SAVED)
    scores: dict[int, Score] = {int(i): tuple(score) for i, score in json.loads(content).items()} if content else {}
    waiting = {index: policy for index, policy in enumerate(policies) if index not in scores}
    resources = track.spec.resources
    portions = PORTIONS * resources.env_runners
    task = ray.remote(num_cpus=resources.cpus_per_runner, num_gpus=resources.gpus_per_runner)(scores_of)
    told = track.spec.model_dump_json(), track.dense
    running = [
        task.remote(*told, {i: waiting[i] for i in portion}, track.data, track.pulse)
        for portion in (list(waiting)[start::portions] for start in range(portions))
        if portion
    ]
    while running:
        track.on_wait()
        ready, running = ray.wait(running, num_returns=1, timeout=POLL_SECONDS)
        for reference in ready:
            scores |= ray.get(reference)
            track.save(SAVED, json.dumps(scores).encode())
    return scores
