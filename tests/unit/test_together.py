"""Two real processes over gloo train as one does: its gradients, its masks, and their own bits after every stop."""

from __future__ import annotations

import copy
import itertools
import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from purlkit.checkpoint import fingerprint
from purlkit.errors import Diverged, InvalidSpec
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.spec import Training
from purlkit.training.augment import crop_and_mirror
from purlkit.training.data import Images, Share
from purlkit.training.loop import train
from purlkit.training.paused import Paused
from purlkit.training.together import Team, refuse_odd_norms
from tests.unit.networks import digits_net, some_images

IMAGES = Images(some_images(90).x, some_images(90).y, augment=crop_and_mirror)
# 31 and 31 and 28 images: no batch can be halved.
TRAINING = Training(epochs=2, batch_size=31, learning_rate=0.05)

# In 64 bits one addition is off by 1.1e-16 of its result at most, and no sum here has more than 90 * 64 terms: 6e-13.
# Two epochs are six steps, forward and back through 10 layers with their norms, each of which may make ten times of it.
ROUNDING = 1e-9


def masked(model: nn.Module) -> Mask:
    return Mask({layer.name: layer.weight.detach().abs() > 0.05 for layer in prunable_layers(model)})


def with_dropout() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 10))


def in_64_bits(team: Team | None) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The gradients of the first step, and the network at the end."""
    model, first = digits_net(width=4).double(), []
    images = Images(IMAGES.x.double(), IMAGES.y, augment=crop_and_mirror)

    def look() -> None:
        if not first:
            first.extend(parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None)

    train(model, images, TRAINING, seed=5, mask=masked(model), on_batch=look, team=team)
    return first, copy.deepcopy(model.state_dict())


def whole(team: Team) -> str:
    model = with_dropout()
    train(model, IMAGES, TRAINING, seed=5, mask=masked(model), team=team)
    return fingerprint(model)


def in_pieces(team: Team) -> tuple[str, list[tuple[int, int]]]:
    """Stopped after every other step, and after the epoch; only the first's word counts, and only its state is kept."""
    model, paused, stops = with_dropout(), None, []
    mask, turn = masked(model), itertools.count()
    while True:
        paused = train(
            model,
            IMAGES,
            TRAINING,
            seed=5,
            mask=mask,
            paused=paused,
            pause_when=lambda: team.rank == 0 and next(turn) % 2 == 0,
            stop=lambda _: team.rank == 0,
            team=team,
        )
        if paused is None:
            return fingerprint(model), stops
        kept: list[Any] = [(paused, model.state_dict()) if team.rank == 0 else None]
        dist.broadcast_object_list(kept)
        paused, model = Paused(kept[0][0].epochs, kept[0][0].tensors), with_dropout()
        model.load_state_dict(kept[0][1])
        stops.append((paused.epochs, paused.batches))


def diverging(team: Team) -> str:
    """Only the images of the second are wild, and both give up."""
    x = IMAGES.x.clone()
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    x[order[60 + 15 :]] = float("inf")
    with pytest.raises(Diverged) as caught:
        train(with_dropout()[:2].append(nn.Linear(16, 10)), Images(x, IMAGES.y), TRAINING, seed=0, team=team)
    return str(caught.value)


QUESTIONS: dict[str, Callable[[Team], Any]] = {
    "64 bits": in_64_bits,
    "whole": whole,
    "pieces": in_pieces,
    "diverging": diverging,
}


WAIT_SECONDS = 300  # each imports torch first, and on a busy machine one may be done with that long before the other


def one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=2, timeout=timedelta(seconds=WAIT_SECONDS))
    found = {name: ask(Team.here()) for name, ask in QUESTIONS.items()}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found out."""
    folder = tmp_path_factory.mktemp("team")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=one_of_two, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(2 * WAIT_SECONDS)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_the_gradients_are_those_of_one_process_on_the_whole_batch(two: list[dict[str, Any]]) -> None:
    alone, _ = in_64_bits(None)

    assert len(alone) == len(two[0]["64 bits"][0]) > 20
    for gradients in (two[0]["64 bits"][0], two[1]["64 bits"][0]):
        for ours, theirs in zip(gradients, alone, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING * float(theirs.abs().max()) + 1e-15)


def test_so_are_the_weights_the_statistics_and_the_zeros_after_two_epochs(two: list[dict[str, Any]]) -> None:
    _, alone = in_64_bits(None)

    for _, network in (two[0]["64 bits"], two[1]["64 bits"]):
        for name, ours in network.items():
            torch.testing.assert_close(ours, alone[name], rtol=0, atol=ROUNDING, msg=name)
            if "weight" in name and ours.dim() > 1:
                assert torch.equal(ours == 0, alone[name] == 0), name


def test_stopped_in_the_middle_of_epochs_they_end_with_the_same_bits(two: list[dict[str, Any]]) -> None:
    assert two[0]["whole"] == two[1]["whole"]
    for found in two:
        bits, stops = found["pieces"]
        assert stops == [(0, 1), (1, 0), (1, 1)]
        assert bits == found["whole"]


def test_one_that_diverges_takes_the_other_with_it(two: list[dict[str, Any]]) -> None:
    assert two[0]["diverging"] == two[1]["diverging"]
    assert "diverged in epoch 1 of 2" in two[0]["diverging"]


@pytest.mark.parametrize("n", [1, 2, 7, 32])
@pytest.mark.parametrize("of", [1, 2, 3, 8])
def test_shares_are_even_and_leave_nothing_out(n: int, of: int) -> None:
    parts = [list(range(n))[Share(rank, of).part(n)] for rank in range(of)]

    assert [image for part in parts for image in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_norm_that_does_more_than_normalise_is_refused() -> None:
    class WithActivation(nn.BatchNorm2d):
        pass

    with pytest.raises(InvalidSpec, match="WithActivation can't be shared by several workers"):
        refuse_odd_norms(nn.Sequential(nn.Conv2d(1, 4, 3), WithActivation(4)))
