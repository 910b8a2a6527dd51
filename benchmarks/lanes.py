"""Many small networks trained side by side on one device: each in a lane, with weights, mask and images of its own.

One network of this size keeps a GPU busy with starting kernels. Here every operation of a step works on all lanes at
once, and on a GPU a whole step is one CUDA graph. A lane takes its next training as soon as it has ended the last.
What is computed is what purlkit.training.loop.train computes, in another order of summation
(tests/unit/test_lanes.py); on a GPU convolutions multiply in TF32, as torch's own do there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.lane_net import ByBatch, ByRunning, LaneNet, State
from purlkit.spec import Training
from purlkit.training.data import steps_per_epoch
from purlkit.training.loop import cosine
from purlkit.zoo.small import DigitsResNet

MOMENTUM, DECAY = Training().momentum, Training().weight_decay  # of every lane
STATISTICS = 0.1  # of a batch in the running statistics, as torch has it by default
AT_ONCE = 4096  # images measured in all lanes together


@dataclass(frozen=True)
class Order:
    """What one training does: the images of each step by their place in the lanes' store, -1 for none, and its rate."""

    images: Tensor  # (steps, batch)
    rates: Tensor

    @classmethod
    def of(cls, first: int, count: int, training: Training, seed: int) -> Order:
        """The batches and rates that `train` takes for the same seed, of `count` images that lie from `first` on."""
        if (training.momentum, training.weight_decay, training.optimizer) != (MOMENTUM, DECAY, "sgd"):
            raise ValueError("the lanes train by the default optimiser only")
        parts = steps_per_epoch(count, training.batch_size)
        generator = torch.Generator().manual_seed(seed)
        images = torch.full((training.epochs * parts, -(-count // parts)), -1, dtype=torch.int32)
        for epoch in range(training.epochs):
            for part, index in enumerate(torch.randperm(count, generator=generator).tensor_split(parts)):
                images[epoch * parts + part, : len(index)] = first + index
        steps = len(images)
        return cls(images, torch.tensor([cosine(training.learning_rate, step, steps) for step in range(steps)]))


@dataclass(frozen=True, eq=False)
class Start:
    """What a training begins with, on the device: a row of parameters, and batch norm's running statistics."""

    parameters: Tensor
    means: Tensor
    variances: Tensor


class Measured(NamedTuple):
    loss: float
    accuracy: float


class Lanes:
    """Networks like `model`, of which each trains on up to `batch` images a step for up to `steps` steps.

    All of them use one store of up to `images` normalised images of the shape (channels, height, width).
    """

    def __init__(
        self,
        model: DigitsResNet,
        shape: tuple[int, int, int],
        *,
        lanes: int,
        batch: int,
        steps: int,
        images: int,
        device: str,
    ) -> None:
        self.device, self.count = torch.device(device), lanes
        self._net = LaneNet(model)
        self._x = torch.zeros(images, *shape[1:], shape[0], device=device)
        self._y = torch.zeros(images, dtype=torch.long, device=device)
        self._stored = 0
        width = sum(size.numel() for size in self._net.shapes.values())
        statistics = sum(self._net.channels.values())
        self._parameters, self._keep, self._moments = (torch.zeros(lanes, width, device=device) for _ in range(3))
        self._means, self._variances = (torch.zeros(lanes, statistics, device=device) for _ in range(2))
        # After the last step there is one that is nobody's, without images and a rate: an idle lane stays there.
        self._order = torch.full((lanes, steps + 1, batch), -1, dtype=torch.int32, device=device)
        self._rates = torch.zeros(lanes, steps + 1, device=device)
        self._at = torch.full((lanes,), steps, device=device)
        self._graphs: dict[int, Any] = {}
        self._memory = (
            torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None
        )  # one, for one runs at once

    def store(self, x: Tensor, y: Tensor) -> int:
        """Where the images lie from now on."""
        first, self._stored = self._stored, self._stored + len(y)
        if self._stored > len(self._y):
            raise ValueError(f"the store holds {len(self._y)} images")
        self._x[first : self._stored] = x.to(self.device).permute(0, 2, 3, 1)
        self._y[first : self._stored] = y.to(self.device)
        return first

    def start_of(self, state: State) -> Start:
        """Of a model's state dict."""
        rows = [self._net.row(state)]
        rows += [
            torch.cat([state[f"{name}.running_{what}"] for name in self._net.channels]) for what in ("mean", "var")
        ]
        return Start(*(row.to(self.device) for row in rows))

    def begin(self, lane: int, start: Start, kept: Tensor, order: Order) -> None:
        """The lane's next training, of what is kept alone (`kept` is a row of booleans, as LaneNet.kept makes it)."""
        kept = kept.to(self.device)
        self._keep[lane] = kept
        self._parameters[lane] = start.parameters * kept
        self._moments[lane] = 0
        self._means[lane], self._variances[lane] = start.means, start.variances
        steps, batch = order.images.shape
        self._order[lane, :steps] = -1
        self._order[lane, :steps, :batch] = order.images.to(self.device)
        self._rates[lane, :steps] = order.rates.to(self.device)
        self._at[lane] = 0

    def end(self, lane: int) -> None:
        self._at[lane] = self._order.shape[1] - 1

    def advance(self, lanes: int, steps: int) -> None:
        """The first so many lanes, each by so many steps."""
        if self.device.type == "cuda" and lanes not in self._graphs:
            self._graphs[lanes] = self._captured(lanes)
        step = self._graphs[lanes].replay if lanes in self._graphs else partial(self._one_step, lanes)
        for _ in range(steps):
            step()

    def measure(self, lanes: Sequence[int], firsts: Sequence[int], count: int) -> list[Measured]:
        """Of each lane, on so many images that lie from its own first on."""
        which = torch.tensor(lanes, device=self.device)
        parameters = self._net.parameters(self._parameters[which])
        normalise = ByRunning(self._net.norms(self._means[which]), self._net.norms(self._variances[which]))
        first = torch.tensor(firsts, device=self.device)[:, None]
        losses, right = torch.zeros(len(lanes), device=self.device), torch.zeros(len(lanes), device=self.device)
        with torch.no_grad():
            for part in torch.arange(count, device=self.device).split(max(1, AT_ONCE // len(lanes))):
                x, y = self._x[first + part], self._y[first + part]
                answers = self._net.answers(parameters, x, normalise)
                losses += functional.cross_entropy(answers.transpose(1, 2), y, reduction="none").sum(1)
                right += ((answers.argmax(2) == y) & answers.isfinite().all(2)).sum(1)
        means = (losses / count).nan_to_num(nan=torch.inf).tolist()
        return [Measured(loss, int(n) / count) for loss, n in zip(means, right.tolist(), strict=True)]

    def state(self, lane: int) -> dict[str, Tensor]:
        """The network in the lane, as its model's state dict has it; counts of batches are left out."""
        return self._net.state(self._parameters[lane], self._means[lane], self._variances[lane])

    def _one_step(self, lanes: int) -> None:
        which, at = torch.arange(lanes, device=self.device), self._at[:lanes]
        index, rate = self._order[which, at].long(), self._rates[which, at]
        there = index >= 0
        index = index.clamp(min=0)
        leaves = {n: p.detach().requires_grad_() for n, p in self._net.parameters(self._parameters[:lanes]).items()}
        norms = ByBatch(there)
        answers = self._net.answers(leaves, self._x[index], norms)
        losses = functional.cross_entropy(answers.transpose(1, 2), self._y[index], reduction="none")
        gradients = torch.autograd.grad((losses * there).sum(1).div(norms.images).sum(), list(leaves.values()))
        with torch.no_grad():
            gradient = torch.cat([each.flatten(1) for each in gradients], 1)
            gradient.mul_(self._keep[:lanes]).add_(self._parameters[:lanes], alpha=DECAY)
            self._moments[:lanes].mul_(MOMENTUM).add_(gradient)
            gradient.add_(self._moments[:lanes], alpha=MOMENTUM)
            self._parameters[:lanes].addcmul_(gradient, rate[:, None], value=-1)
            self._means[:lanes].lerp_(torch.cat(norms.means, 1), STATISTICS)
            self._variances[:lanes].lerp_(torch.cat(norms.variances, 1), STATISTICS)
            self._at[:lanes].add_(1).clamp_(max=self._order.shape[1] - 1)

    def _captured(self, lanes: int) -> Any:
        """A graph of one step. What it takes to record one is put back: to warm up, steps are really done."""
        changed = [self._parameters, self._moments, self._means, self._variances, self._at]
        before = [each.clone() for each in changed]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                self._one_step(lanes)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            self._one_step(lanes)
        for now, was in zip(changed, before, strict=True):
            now.copy_(was)
        return graph
