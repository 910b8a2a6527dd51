"""One network fine-tuned by two workers on a real Ray, which are killed in the middle of an epoch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from purlkit import Mask, checkpoint
from purlkit.errors import MissingData
from purlkit.pruning.layers import prunable_layers
from purlkit.spec import JobSpec
from purlkit.training.loop import train
from purlkit.zoo import datasets, models
from workers import cluster, crew
from workers.crew import Crew
from workers.holding import hold
from workers.pulse import PulseCounter
from workers.tuning import Entrant, Leg, Run

pytestmark = pytest.mark.long

SPEC = JobSpec.model_validate(
    {
        "model": {"name": "digits-resnet", "kwargs": {"width": 4}},
        "targets": {"sparsity": 0.5},
        "fine_tune": {"epochs": 3, "batch_size": 30},
        "resources": {"fine_tune_workers": 2, "cpus_per_runner": 0.5},
    }
).resolve()
STEPS = 34  # of an epoch: 1,000 images in batches of 30

# In 32 bits a sum is off by 6e-8 of its terms. 102 steps with momentum 0.9, each of which hands on ten times what it
# got of rounding, make 6e-5 of weights that are below 1; what is far above that is a mistake.
ROUNDING = 1e-3


@pytest.fixture(scope="module", autouse=True)
def one_cluster() -> Iterator[None]:
    with cluster.connected(""):
        yield


def entrant() -> tuple[Entrant, dict[str, torch.Tensor]]:
    model = models.build_for(SPEC)
    keep = {layer.name: layer.weight.detach().abs() > 0.05 for layer in prunable_layers(model)}
    return Entrant("lamp", None, Mask(keep)), checkpoint.tensors_of(model)


def tuned(kill_at: Sequence[int]) -> tuple[Run, int]:
    """After one epoch and then two more, with a worker killed as the steps of both together come to each number."""
    pulse: Any = ray.remote(num_cpus=0)(PulseCounter).remote()
    data = hold(datasets.load(SPEC.data, Path()), SPEC)
    chosen, dense = entrant()
    leg, left, met = Leg("run-lamp-0", chosen, SPEC.fine_tune, seed=7, until=1), list(kill_at), []

    def look() -> None:
        if both._workers and both._workers[1] not in met and left:
            count, _ = ray.get(pulse.read.remote())
            if count >= left[0]:
                left.pop(0)
                met.append(both._workers[1])
                ray.kill(both._workers[1])

    with Crew(SPEC, look) as both:
        run = both.tune(leg, ray.put(dense), data, pulse)
        assert run.epochs == 1
        run = both.tune(replace(leg, run=run, until=3), ray.put(dense), data, pulse)
    assert not left, "the workers were killed as often as was said"
    return run, ray.get(pulse.read.remote())[0]


def test_killed_twice_it_ends_with_the_bits_of_an_uninterrupted_one_and_with_the_weights_of_one_worker() -> None:
    undisturbed, steps = tuned([])
    killed, more = tuned([2 * STEPS + 10, 4 * STEPS])

    assert steps == 2 * 3 * STEPS, "two workers take each step together"
    assert more > steps
    assert killed.select == undisturbed.select
    for name, tensor in undisturbed.tensors.items():
        assert torch.equal(killed.tensors[name], tensor), name

    chosen, dense = entrant()
    alone = models.build_for(SPEC)
    checkpoint.load_into(alone, dense)
    train(alone, datasets.load(SPEC.data, Path()).train, SPEC.fine_tune, seed=7, mask=chosen.mask)
    for name, tensor in checkpoint.tensors_of(alone).items():
        torch.testing.assert_close(undisturbed.tensors[name], tensor, rtol=0, atol=ROUNDING, msg=name)
        if name in {f"{layer.name}.weight" for layer in prunable_layers(alone)}:
            assert torch.equal(tensor == 0, undisturbed.tensors[name] == 0)


@pytest.mark.parametrize("how", ["dies", "finds its port taken"])
def test_who_does_not_get_off_the_ground_is_started_anew(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unlucky(crew.Worker):
        def join(self, *args: Any, **kwargs: Any) -> None:
            try:
                (tmp_path / "first").mkdir()
            except FileExistsError:
                super().join(*args, **kwargs)
                return
            if how == "dies":
                os._exit(1)
            raise OSError("address already in use")

    monkeypatch.setattr(crew, "Worker", Unlucky)
    monkeypatch.setattr(crew, "NOTICE_SECONDS", 1.0)

    run, steps = tuned([])

    assert (run.epochs, steps) == (3, 2 * 3 * STEPS)


def test_the_fault_of_one_is_told_at_once_while_the_others_wait_for_it() -> None:
    @ray.remote(num_cpus=0.1)
    def fails() -> None:
        raise MissingData("the image a.png can't be read", at="/dataset/name", remedy="replace it")

    @ray.remote(num_cpus=0.1)
    def waits() -> None:
        time.sleep(3600)

    waiting, began = waits.remote(), time.monotonic()
    with pytest.raises(MissingData, match=r"a\.png"):
        Crew(SPEC, lambda: None)._all([waiting, fails.remote()])
    assert time.monotonic() - began < crew.NOTICE_SECONDS
    ray.cancel(waiting, force=True)
