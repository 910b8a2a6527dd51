"""Which weights are kept. A mask only ever shrinks, and training under it leaves what is removed at zero."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from purlkit import results
from purlkit.pruning.layers import PrunableLayer, describe


@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """Layer name → bool tensor of the weight's shape, True where the weight is kept."""

    keep: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, keep in self.keep.items():
            if keep.dtype is not torch.bool:
                raise TypeError(f"the mask of {name} must be boolean")

    @classmethod
    def dense(cls, layers: Sequence[PrunableLayer]) -> Mask:
        """Everything is kept."""
        return cls({layer.name: torch.ones_like(layer.weight, dtype=torch.bool) for layer in layers})

    @classmethod
    def from_weights(cls, layers: Sequence[PrunableLayer]) -> Mask:
        """What is not zero is kept."""
        return cls({layer.name: layer.weight.detach() != 0 for layer in layers})

    @cached_property
    def per_layer(self) -> dict[str, tuple[int, int]]:
        """Layer name → (weights kept, weights in all)."""
        return {name: (int(keep.sum()), keep.numel()) for name, keep in self.keep.items()}

    @property
    def kept(self) -> int:
        return sum(kept for kept, _ in self.per_layer.values())

    @property
    def total(self) -> int:
        return sum(total for _, total in self.per_layer.values())

    @property
    def sparsity(self) -> float:
        """Share of all prunable weights that is removed."""
        return (self.total - self.kept) / self.total

    def __repr__(self) -> str:
        size = f"keeps {self.kept:,} of {self.total:,} weights in {len(self.keep)} layers"
        return f"Mask({size}, {self.sparsity:.2%} sparse)"

    def narrow(self, name: str, keep: Tensor) -> Mask:
        """The same mask with one layer cut further; what is removed already stays so."""
        return Mask({**self.keep, name: self.keep[name] & keep})

    def __and__(self, other: Mask) -> Mask:
        if self.keep.keys() != other.keep.keys():
            raise ValueError("the masks are of different networks")
        return Mask({name: keep & other.keep[name] for name, keep in self.keep.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self.keep.keys() == other.keep.keys() and all(
            torch.equal(keep, other.keep[name]) for name, keep in self.keep.items()
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def sha256(self) -> str:
        """Equal for equal masks, whatever the device and the memory layout."""
        digest = hashlib.sha256()
        for name, keep in sorted(self.keep.items()):
            digest.update(f"{name} {list(keep.shape)}\n".encode())
            digest.update(keep.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def apply(self, layers: Sequence[PrunableLayer]) -> None:
        """Sets the removed weights to zero, on whatever device they are."""
        for layer in layers:
            # Not a product: that would leave -0.0 for half of them and keep a NaN.
            layer.weight.masked_fill_(~self.keep[layer.name].to(layer.weight.device), 0)

    def holder(self, layers: Sequence[PrunableLayer]) -> Callable[[], None]:
        """A function to call between backward and each optimiser step: no removed weight gets a gradient.

        A weight at zero without a gradient gets no weight decay and no momentum either, so it stays zero as long as
        the optimiser is as new as the mask. One product does it, where weights and momentum would take two.
        """
        held = [
            (layer.weight, torch.empty_like(layer.weight).copy_(self.keep[layer.name]))
            for layer in layers
            if not bool(self.keep[layer.name].all())
        ]

        def hold() -> None:
            pairs = [(weight.grad, keep) for weight, keep in held if weight.grad is not None]
            if pairs:
                torch._foreach_mul_([grad for grad, _ in pairs], [keep for _, keep in pairs])

        return hold

    def report(
        self,
        layers: Sequence[PrunableLayer],
        alphas: Sequence[float] | None = None,
        uses: Mapping[str, int] | None = None,
    ) -> tuple[results.LayerReport, ...]:
        """The per-layer table of a result; `alphas` where a policy chose the cuts, `uses` of `cost.weight_uses`."""
        return tuple(
            results.LayerReport(
                **row.model_dump(),
                kept=self.per_layer[row.name][0],
                sparsity=(row.weights - self.per_layer[row.name][0]) / row.weights,
                alpha=None if alphas is None else alphas[index],
                multiply_adds=None if uses is None else row.weights * uses[row.name],
                multiply_adds_kept=None if uses is None else self.per_layer[row.name][0] * uses[row.name],
            )
            for index, row in enumerate(describe(layers))
        )
