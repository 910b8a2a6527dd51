"""What purl-budget does around its search: it measures the naive allocations before, and chooses by halving after it.

Both are Ray tasks of a runner's size, and what they found is saved as it ends.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from purlkit.startup import loading

with loading():  # a Ray worker's first task begins here
    import torch
    from torch import Tensor

from purlkit import checkpoint
from purlkit.agent.replay import Replay, Step
from purlkit.budget.allocation import Allocation
from purlkit.budget.env import BudgetEnv
from purlkit.budget.halving import halve
from purlkit.budget.scouting import Scouted, naive_allocations, scout
from purlkit.budget.search import LONGER, finalists, longer
from purlkit.budget.yardstick import Yardstick
from purlkit.pruning.ranking import largest
from purlkit.seeds import derive
from purlkit.spec import JobSpec
from purlkit.training.data import Splits, subset
from purlkit.zoo import models
from workers.dense import Dense
from workers.found import Found
from workers.race import POLL_SECONDS, Track
from workers.tuning import Entrant

SCOUTED = "scouted"
# What a task is told first: the spec, the dense tensors, where the data are held, whom to give signs of life.
Place = tuple[str, Any, Any, Any]


@dataclass(frozen=True)
class Scouting:
    """What is known before the first episode."""

    scouted: Scouted
    memory: list[Step]
    trainings: int
    seconds: float

    def to_bytes(self) -> bytes:
        replay = Replay(max(1, len(self.memory)), seed=0)
        for step in self.memory:
            replay.add(step)
        allocations, losses = zip(*self.scouted.naive, strict=True)
        known = {"naive": np.array(allocations), "losses": np.array(losses)}
        known |= {"trainings": np.array(self.trainings), "seconds": np.array(self.seconds)}
        content = io.BytesIO()
        np.savez(content, **known, **{f"memory/{name}": column for name, column in replay.arrays().items()})  # type: ignore[arg-type]
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Scouting:
        with np.load(io.BytesIO(content), allow_pickle=False) as told:
            rows = {name.removeprefix("memory/"): told[name] for name in told.files if name.startswith("memory/")}
            replay = Replay(max(1, len(rows.get("action", ()))), seed=0)
            replay.restore(rows)
            naive = zip(told["naive"].tolist(), told["losses"].tolist(), strict=True)
            scouted = Scouted(tuple((tuple(allocation), loss) for allocation, loss in naive))
            return cls(scouted, list(replay.steps), int(told["trainings"]), float(told["seconds"]))


def scouting(track: Track, seed: int) -> Scouting:
    content = track.saved(SCOUTED)
    if content is not None:
        return Scouting.from_bytes(content)
    [done] = _run(track, [_task(track, scout_here).remote(*_place(track), seed)])
    known: Scouting = done
    track.save(SCOUTED, known.to_bytes())
    return known


def scout_here(spec_json: str, dense: dict[str, Tensor], data: Splits, pulse: Any, seed: int) -> Scouting:
    """Runs as a Ray task: the naive allocations by the search's own yardstick, and walks that lead to them."""
    spec, model, images, reward = _load(spec_json, dense, data)
    began = time.monotonic()
    env = BudgetEnv(
        model,
        images,
        reward,
        search=spec.search,
        target_sparsity=spec.target,
        retrain_seed=derive(seed, "retrain"),
        on_batch=lambda: pulse.tick.remote(),
    )
    scouted, memory = scout(env)
    return Scouting(scouted, memory, env.yardstick.trained, time.monotonic() - began)


def losses_of(
    spec_json: str,
    dense: dict[str, Tensor],
    data: Splits,
    pulse: Any,
    allocations: Sequence[Allocation],
    seed: int,
) -> tuple[list[float], float]:
    """Runs as a Ray task: what some allocations come to after the longer training, and in how many seconds."""
    spec, model, images, reward = _load(spec_json, dense, data)
    began = time.monotonic()
    yardstick = Yardstick(
        model,
        images,
        reward,
        longer(spec.search.retrain),
        on_batch=lambda: pulse.tick.remote(),
        at="/search/retrain",
    )
    return [yardstick(allocation, seed).loss for allocation in allocations], time.monotonic() - began


def best_allocation(track: Track, dense: Dense, known: Scouting, found: Found, seed: int) -> Entrant:
    """The search's one candidate: the winner of the halving."""
    search, trainings, seconds = track.spec.search, 0, known.seconds

    def measure(field: Sequence[Allocation], rung: int) -> list[float]:
        nonlocal trainings, seconds
        losses, taken = _rung(track, field, rung, derive(seed, "halving", rung))
        trainings, seconds = trainings + len(field), seconds + taken
        return losses

    entrants = finalists(known.scouted, found.episodes, found.greedy)
    best = halve(entrants, measure)
    whose = naive_allocations(dense.layers, track.spec.target).get(best)
    return Entrant(
        method="purl-budget",
        variant="best",
        mask=largest(dense.layers, best),
        note=f"the best of {len(entrants)} allocations by halving" + (f": that of {whose}" if whose else ""),
        images=found.images + search.images_retrained(known.trainings + LONGER * trainings),
        device_seconds=found.device_seconds + seconds,
    )


def _rung(track: Track, field: Sequence[Allocation], rung: int, seed: int) -> tuple[list[float], float]:
    """Of all who are left, measured side by side."""
    name = f"halving-{rung}"
    if (content := track.saved(name)) is not None:
        told = json.loads(content)
        return told["losses"], told["seconds"]
    portions = min(len(field), track.spec.resources.env_runners)
    parts = [list(field[start::portions]) for start in range(portions)]
    done = _run(track, [_task(track, losses_of).remote(*_place(track), part, seed) for part in parts])
    losses = [0.0] * len(field)
    for start, (measured, _) in enumerate(done):
        losses[start::portions] = measured
    seconds = sum(taken for _, taken in done)
    track.save(name, json.dumps({"losses": losses, "seconds": seconds}).encode())
    return losses, seconds


def _place(track: Track) -> Place:
    return track.spec.model_dump_json(), track.dense, track.data, track.pulse


def _task(track: Track, function: Any) -> Any:
    resources = track.spec.resources
    return ray.remote(num_cpus=resources.cpus_per_runner, num_gpus=resources.gpus_per_runner)(function)


def _run(track: Track, references: list[Any]) -> list[Any]:
    waiting = list(references)
    while waiting:
        track.on_wait()
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=POLL_SECONDS)
    return list(ray.get(references))


def _load(spec_json: str, dense: dict[str, Tensor], data: Splits) -> tuple[JobSpec, Any, Any, Any]:
    """The model and the two splits that a search may see."""
    spec = JobSpec.model_validate_json(spec_json)
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_runner)))
    device = "cuda" if spec.resources.gpus_per_runner > 0 else "cpu"
    splits = data.to(device)
    model = models.build_for(spec).to(device)
    checkpoint.load_into(model, dense)
    return spec, model, subset(splits.train, spec.search.retrain.images, spec.seed), splits.reward
