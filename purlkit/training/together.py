"""A training shared by several processes: each takes its share of every batch, and all take the same step.

Over any number of them a step's gradients are those of one process on the whole batch, batch norm's among them; only
the order in which numbers are added is another. Each process holds the whole network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from purlkit.errors import InvalidSpec
from purlkit.training.data import Share

# Those whose forward is batch norm and nothing else.
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Team:
    """The processes of torch's default group, as one of them sees them."""

    rank: int
    size: int

    @classmethod
    def here(cls) -> Team:
        """Once `torch.distributed.init_process_group` has been called."""
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def share(self) -> Share:
        return Share(self.rank, self.size)

    def agree(self, yes: bool) -> bool:
        """What the first of them says."""
        word = self._placed(torch.tensor(yes, dtype=torch.uint8))
        dist.broadcast(word, src=0)
        return bool(word)

    def mean(self, number: Tensor) -> Tensor:
        total = number.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """Everybody's, in the order of rank."""
        here = self._placed(tensor)
        found = [torch.empty_like(here) for _ in range(self.size)]
        dist.all_gather(found, here)
        return [one.cpu() for one in found]

    @staticmethod
    def _placed(tensor: Tensor) -> Tensor:
        return tensor.cuda() if dist.get_backend() == "nccl" else tensor


@contextmanager
def learning(model: nn.Module, team: Team | None) -> Iterator[Callable[[Tensor], Tensor]]:
    """The network as training calls it: alone as it is, in a team with gradients and batch norms over all of it."""
    if team is None:
        yield model
        return
    refuse_odd_norms(model)
    norms = [module for module in model.modules() if isinstance(module, _NORMS)]
    try:
        for norm in norms:
            norm.forward = partial(_normalised, norm)  # type: ignore[method-assign]
        yield DistributedDataParallel(model, broadcast_buffers=False)
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


def refuse_odd_norms(model: nn.Module) -> None:
    """A norm that does more than normalise would be changed, and one left alone would see a part of each batch."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and type(module) not in _NORMS:
            raise InvalidSpec(
                f"the network's {type(module).__name__} can't be shared by several workers",
                at="/resources/fine_tune_workers",
                remedy="leave fine_tune_workers at 1",
            )


def _normalised(norm: Any, x: Tensor) -> Tensor:
    """Batch norm with the mean and the variance of the whole batch; torch's own SyncBatchNorm is for GPUs only."""
    if not norm.training:
        answer: Tensor = type(norm).forward(norm, x)
        return answer
    dims, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
    count = torch.tensor(x.numel() / x.shape[1], device=x.device, dtype=torch.float64)
    dist.all_reduce(count)
    n = float(count)
    mean = _summed(x.sum(dims)) / n
    centred = x - mean.view(shape)
    variance = _summed(centred.square().sum(dims)) / n
    if norm.track_running_stats:
        norm.num_batches_tracked.add_(1)
        momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        with torch.no_grad():
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
            norm.running_var.lerp_((variance * n / max(1, n - 1)).to(norm.running_var.dtype), momentum)
    normal = centred * torch.rsqrt(variance + norm.eps).view(shape)
    return normal * norm.weight.view(shape) + norm.bias.view(shape) if norm.affine else normal


class _Sum(torch.autograd.Function):
    """Over the team. Whatever anybody makes of the sum is owed to everybody's part of it."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:  # noqa: ARG004
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, owed: Tensor) -> Tensor:  # noqa: ARG004
        total = owed.clone()
        dist.all_reduce(total)
        return total


def _summed(part: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(part)
    return total
