"""What the steps of a walk came to, so that none is computed twice: the actions so far and one seed decide it all.

Of a step two things are kept. Its outcome is all that an agent asks for, and small. The network after it is needed only
where another walk branches off; it is large and may be gone by then, for it can be computed again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from purlkit.pruning.masks import Mask

Path = tuple[int, ...]  # the retraining seed, then one action for each step


@dataclass(frozen=True)
class Outcome:
    accuracy: float
    sparsity: float  # of the whole network
    layer_sparsity: float  # of the layer that the step cut
    flops: float = 0.0  # share of the multiply-adds removed, where the target is about it


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A network at some point of a walk, in main memory: a GPU's is the network's own."""

    tensors: list[Tensor]
    mask: Mask
    nbytes: int

    def restore(self, tensors: list[Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(tensors, self.tensors)


@dataclass
class TransitionCache:
    """Never more than `max_bytes`. What goes first is a snapshot, of these the deepest, of equals the longest unused.

    Most walks branch off early: 20 snapshots kept so saved more of the demo's steps than 50 of the latest
    (docs/benchmarks.md).
    """

    max_bytes: int
    bytes: int = field(default=0, init=False)
    _outcomes: OrderedDict[Path, Outcome] = field(default_factory=OrderedDict, init=False)
    _snapshots: OrderedDict[Path, Snapshot] = field(default_factory=OrderedDict, init=False)

    def outcome(self, path: Path) -> Outcome | None:
        if path in self._outcomes:
            self._outcomes.move_to_end(path)
        if path in self._snapshots:  # a walk that comes by may branch off behind it
            self._snapshots.move_to_end(path)
        return self._outcomes.get(path)

    def snapshot(self, path: Path) -> Snapshot | None:
        return self._snapshots.get(path)

    def add(self, path: Path, outcome: Outcome) -> None:
        if path not in self._outcomes and self._room_for(_size(path)):
            self.bytes += _size(path)
            self._outcomes[path] = outcome

    def add_snapshot(self, path: Path, tensors: Sequence[Tensor], mask: Mask) -> None:
        # An upper bound: the snapshots of one walk share most of their masks.
        nbytes = sum(tensor.nbytes for tensor in [*tensors, *mask.keep.values()])
        if path not in self._snapshots and self._room_for(nbytes, snapshot_at=len(path)):
            self.bytes += nbytes
            self._snapshots[path] = Snapshot([t.detach().to("cpu", copy=True) for t in tensors], mask, nbytes)

    def _room_for(self, nbytes: int, *, snapshot_at: int = 0) -> bool:
        """Makes it, unless what it would take is worth more."""
        if nbytes > self.max_bytes:
            return False
        while self.bytes + nbytes > self.max_bytes:
            deepest = max(self._snapshots, key=len, default=())
            if len(deepest) < snapshot_at:
                return False
            if deepest:
                self.bytes -= self._snapshots.pop(deepest).nbytes
            else:
                self.bytes -= _size(self._outcomes.popitem(last=False)[0])
        return True


def _size(path: Path) -> int:
    """Of an outcome with its path: three floats, a pointer for each action, and the dictionary's own, measured."""
    return 400 + 8 * len(path)
