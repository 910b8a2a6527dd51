"""The arithmetic of many networks side by side: purlkit's DigitsResNet with another leading dimension, the lane.

Maps are (lanes, n, height, width, channels). A lane's parameters are one row, in which a convolution lies as (row,
column, input, output) and a linear layer as (input, output): both are the second factor of one product over all lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from purlkit.zoo.small import Block, DigitsResNet

EPSILON = 1e-5  # torch's own for batch norm
State = Mapping[str, Tensor]
# What normalises a map: by its batch norm's name, and that one's factor and summand.
Normalise = Callable[[str, Tensor, Tensor, Tensor], Tensor]


class LaneNet:
    def __init__(self, model: DigitsResNet) -> None:
        self.shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        self.channels = {n: m.num_features for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
        self._strides = [block.conv1.stride[0] for block in model.body if isinstance(block, Block)]

    def answers(self, of: State, x: Tensor, normalise: Normalise) -> Tensor:
        """(lanes, n, classes)."""

        def normed(name: str, maps: Tensor) -> Tensor:
            return normalise(name, maps, of[f"{name}.weight"], of[f"{name}.bias"])

        x = functional.relu(normed("norm", convolved(x, of["conv.weight"])))
        for number, stride in enumerate(self._strides):
            block = f"body.{number}"
            inner = functional.relu(normed(f"{block}.norm1", convolved(x, of[f"{block}.conv1.weight"], stride)))
            inner = normed(f"{block}.norm2", convolved(inner, of[f"{block}.conv2.weight"]))
            if f"{block}.shortcut.0.weight" in of:
                x = normed(
                    f"{block}.shortcut.1", pointwise(x[:, :, ::stride, ::stride], of[f"{block}.shortcut.0.weight"])
                )
            x = functional.relu(inner + x)
        return torch.baddbmm(of["classifier.bias"][:, None], x.mean((2, 3)), of["classifier.weight"])

    def parameters(self, rows: Tensor) -> dict[str, Tensor]:
        """Views of (lanes, parameters)."""
        parts = rows.split([shape.numel() for shape in self.shapes.values()], 1)
        return {n: p.unflatten(1, _laid(s)) for p, (n, s) in zip(parts, self.shapes.items(), strict=True)}

    def norms(self, rows: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.channels, rows.split(list(self.channels.values()), 1), strict=True))

    def row(self, state: State) -> Tensor:
        return torch.cat([_there(state[name]).flatten() for name in self.shapes])

    def kept(self, mask: State) -> Tensor:
        """A row of what is kept of every parameter: by layer name what the mask says, and all of everything else."""
        whole = {name: torch.ones(shape, dtype=torch.bool) for name, shape in self.shapes.items()}
        return self.row({**whole, **{f"{name}.weight": keep for name, keep in mask.items()}})

    def state(self, row: Tensor, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """What the model's own state dict has, in its own order of dimensions, but for the counts of batches."""
        found = {name: _back(laid[0], self.shapes[name]) for name, laid in self.parameters(row[None]).items()}
        for what, rows in (("mean", mean), ("var", variance)):
            found |= {f"{name}.running_{what}": part[0] for name, part in self.norms(rows[None]).items()}
        return found


class ByBatch:
    """Normalises by the images of the batch that are `there`; keeps what running statistics take from them."""

    def __init__(self, there: Tensor) -> None:
        self.images = there.sum(1).clamp(min=1)
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []
        self._there = there / self.images[:, None]

    def __call__(self, _: str, maps: Tensor, factor: Tensor, summand: Tensor) -> Tensor:
        pixels = maps.shape[2] * maps.shape[3]
        share = (self._there / pixels)[:, :, None].expand(-1, -1, pixels).flatten(1)
        normed, mean, variance = _Norm.apply(maps.flatten(1, 3), factor[:, None], summand[:, None], share[:, :, None])
        count = self.images[:, None] * pixels
        self.means.append(mean.squeeze(1))
        self.variances.append(variance.squeeze(1) * (count / (count - 1).clamp(min=1)))
        return normed.view(maps.shape)  # type: ignore[no-any-return]


class ByRunning:
    """Normalises by statistics of each batch norm, as evaluation does."""

    def __init__(self, means: State, variances: State) -> None:
        self._means, self._variances = means, variances

    def __call__(self, name: str, maps: Tensor, factor: Tensor, summand: Tensor) -> Tensor:
        scale = factor * (self._variances[name] + EPSILON).rsqrt()
        shift = summand - self._means[name] * scale
        wide = (slice(None), None, None, None)
        return maps * scale[wide] + shift[wide]


def convolved(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """3×3 with a border of zeros, by a weight of (lanes, 3, 3, inputs, outputs)."""
    return _Convolution.apply(x, weight, stride)  # type: ignore[no-any-return]


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    with tf32():
        return torch.bmm(x.flatten(1, 3), weight[:, 0, 0]).view(*x.shape[:4], -1)


@contextmanager
def tf32() -> Iterator[None]:
    """For convolutions alone, as torch's own have it by default on a GPU."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        columns, kernel = _windows(x, stride), weight.flatten(1, 3)
        ctx.save_for_backward(columns, weight)
        ctx.stride, ctx.shape = stride, x.shape
        with tf32():
            return torch.bmm(columns, kernel).view(*x.shape[:2], x.shape[2] // stride, x.shape[3] // stride, -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        columns, weight = ctx.saved_tensors
        with tf32():
            own = torch.bmm(columns.transpose(1, 2), gradient.flatten(1, 3)).view(weight.shape)
            if not ctx.needs_input_grad[0]:
                return None, own, None
            if ctx.stride > 1:
                spread = gradient.new_zeros(*ctx.shape[:4], gradient.shape[4])
                spread[:, :, :: ctx.stride, :: ctx.stride] = gradient
                gradient = spread
            turned = weight.flip(1, 2).transpose(3, 4).flatten(1, 3)
            return torch.bmm(_windows(gradient, 1), turned).view(ctx.shape), own, None


def _windows(x: Tensor, stride: int) -> Tensor:
    """(lanes, n × height × width, 9 × channels): what each output sees."""
    lanes, n, height, width, channels = x.shape
    padded = functional.pad(x, (0, 0, 1, 1, 1, 1))
    by_lane, by_image, by_row, by_column, by_channel = padded.stride()
    seen = padded.as_strided(
        (lanes, n, height // stride, width // stride, 3, 3, channels),
        (by_lane, by_image, stride * by_row, stride * by_column, by_row, by_column, by_channel),
    )
    return seen.reshape(lanes, -1, 9 * channels)


class _Norm(torch.autograd.Function):
    """Batch norm of (lanes, rows, channels). `share` says how much each row counts; those of a lane add up to 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, summand: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = torch.bmm(share.transpose(1, 2), x)
        normed = x - mean
        variance = torch.bmm(share.transpose(1, 2), normed * normed)
        inverse = (variance + EPSILON).rsqrt()
        normed *= inverse
        ctx.save_for_backward(normed, inverse, factor, share)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(summand, normed, factor), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        normed, inverse, factor, share = ctx.saved_tensors
        summand = gradient.sum(1, keepdim=True)
        own = (gradient * normed).sum(1, keepdim=True)
        through = torch.addcmul(summand, normed, own).mul_(share)
        return (gradient - through) * (factor * inverse), own, summand, None


def _laid(shape: torch.Size) -> tuple[int, ...]:
    """How a parameter of this shape lies in a lane."""
    return tuple(_there(torch.empty(shape, device="meta")).shape)


def _there(parameter: Tensor) -> Tensor:
    return parameter.permute(2, 3, 1, 0) if parameter.dim() == 4 else parameter.t()


def _back(laid: Tensor, shape: torch.Size) -> Tensor:
    return (laid.permute(3, 2, 0, 1) if len(shape) == 4 else laid.t()).contiguous()
