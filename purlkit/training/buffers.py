"""Tensors as plain buffers. Pickle hands these over beside the rest, so that who takes them up may look at the very
memory in which they lie: Ray keeps one copy on each node, for all processes there.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Bytes, type, shape and strides.
Packed = tuple[NDArray[np.uint8], torch.dtype, torch.Size, tuple[int, ...]]


def packed(tensor: Tensor) -> Packed:
    """In main memory, in the layout that it has: another would be multiplied in another order."""
    tensor = tensor.detach().cpu()
    if not _dense(tensor):
        tensor = tensor.contiguous()
    flat = tensor.as_strided((tensor.numel(),), (1,))
    return flat.view(torch.uint8).numpy(), tensor.dtype, tensor.shape, tensor.stride()


def unpacked(content: NDArray[np.uint8], dtype: torch.dtype, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """The same memory, which is nobody's to write to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        flat = torch.from_numpy(content) if len(content) else torch.empty(0, dtype=torch.uint8)
    return flat.view(dtype).as_strided(shape, strides)


def _dense(tensor: Tensor) -> bool:
    """Whether it fills one piece of memory, in whatever order of its dimensions."""
    reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.numel() > 0 and reach == tensor.numel()


def remade(kind: Any, parts: tuple[Packed, ...], rest: tuple[Any, ...]) -> Any:
    """What `__reduce__` names: `kind` of the tensors, then of the rest."""
    return kind(*(unpacked(*part) for part in parts), *rest)
