"""What a job will cost, before anything starts: images by counting, device-hours by one measured batch. No promise.

The rate is that of a few training steps of this network on the machine that checks, on one thread, or where those would
take too long, that of a product of matrices: another device is faster or slower by its own factor. A measured image
without training counts as a third of a trained one (forward, without backward). Work side by side makes a job shorter
and costs the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from purlkit.budget.search import trainings_beside
from purlkit.ladder import plan
from purlkit.results import PhaseCost
from purlkit.spec import JobSpec, TrainHere
from purlkit.training.evaluate import mode
from purlkit.verdict import kind_of

FORWARD_ONLY = 1 / 3
TOP_1_AND_5 = 2  # passes over the test split for each network
BATCH, ROUNDS = 8, 2
# Of one image's way forward. ResNet-50 at 224×224 has 8e9, and its few steps take about 7 s of the minute that a dry
# run has; ViT-H/14 has 335e9.
MOST_TO_MEASURE = 1e10
SIDE = 1024


def phase_costs(spec: JobSpec, *, layers: int, splits: dict[str, int], seconds_per_image: float) -> list[PhaseCost]:
    """Images and device-hours of each phase that trains; `splits` has the number of images of each split."""
    search, epoch = spec.search, splits["train"]
    searches, points = len(spec.sparsities), len(spec.points)
    reward = search.reward_images or splits["reward"]
    trained, measured = {}, {}

    weights = spec.model.weights
    trained["dense"] = weights.train.epochs * epoch if isinstance(weights, TrainHere) else 0
    measured["dense"] = reward + splits["select"]

    trainings = (search.episodes + search.greedy_episodes) * (layers if search.dense else 1) * searches
    if search.algorithm == "purl-budget":
        trainings += trainings_beside(search.greedy_episodes) * searches
    trained["search"] = trainings * search.retrain.epochs * search.retrain.images
    measured["search"] = trainings * reward
    trained["search"] += sum(tuning.epochs for tuning in spec.tunings) * epoch

    policies = search.episodes * points if "random" in spec.baselines else 0
    trained["policy"] = policies * search.retrain.epochs * search.retrain.images
    measured["policy"] = policies * reward

    kinds = ["search"] * (1 if search.algorithm == "purl-budget" else 2) + [*map(kind_of, spec.baselines)]
    ladder = plan(spec.race, kinds, epochs=spec.fine_tune.epochs, images=epoch)
    trained["race"] = points * (ladder.images + spec.fine_tune.epochs * epoch)
    again = ladder.finalists * (ladder.seeds - 1)
    # Each before its first epoch and at every rung, and the winner at its end.
    looks = len(kinds) + sum(rung.field for rung in ladder.rungs) + 2 * again + 1
    measured["race"] = points * looks * splits["select"]
    if spec.race.matched:
        # The control, and the search to its end where the race stops it earlier.
        trained["race"] += trained["search"] + 2 * points * spec.fine_tune.epochs * epoch

    # The dense network; for each target all that raced, and the winner: cut, at its end, and again from its file.
    measured["verify"] = TOP_1_AND_5 * (1 + points * (len(kinds) + again + 3)) * splits["test"]
    return [
        PhaseCost(
            phase=phase,
            images=trained.get(phase, 0),
            device_hours=(trained.get(phase, 0) + measured[phase] * FORWARD_ONLY) * seconds_per_image / 3600,
        )
        for phase in measured
    ]


def operations(model: nn.Module, image: Tensor) -> int:
    """Additions and multiplications on the way of one image, by torch's own counter; on the meta device too."""
    with FlopCounterMode(display=False) as counter, mode(model, training=False), torch.no_grad():
        model(image)
    return int(counter.get_total_flops())


def seconds_per_image(build: Callable[[], nn.Module], shape: Sequence[int], operations: int) -> float:
    """Of training, by a few steps on images of nothing; of a network too large for that, which then is never built, by
    its operations at the rate of a product of matrices, which such networks come near."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if operations > MOST_TO_MEASURE:
            return operations / FORWARD_ONLY / _products_per_second()
        return _measured(build(), shape)
    finally:
        torch.set_num_threads(threads)


def _measured(model: nn.Module, shape: Sequence[int]) -> float:
    x, y = torch.zeros(BATCH, *shape), torch.zeros(BATCH, dtype=torch.long)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    with mode(model, training=True):
        return _fastest(step) / BATCH


def _products_per_second() -> float:
    left, right = torch.ones(SIDE, SIDE), torch.ones(SIDE, SIDE)
    return 2 * SIDE**3 / _fastest(lambda: left @ right)


def _fastest(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(1 + ROUNDS):  # the first warms up
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])
