"""A loader takes the data root and its own options, and returns four splits that share no image.

This one draws them; yours would read files below `root`, and raise purlkit.errors.MissingData with the layout that it
expects where they are not there.
"""

from __future__ import annotations

from pathlib import Path

import torch

from purlkit.training.data import Images, Splits


def shapes(root: Path, *, images: int = 1200) -> Splits:  # noqa: ARG001 - nothing is read
    generator = torch.Generator().manual_seed(0)
    return Splits(*(_draw(n, generator) for n in (images, 200, 200, 200)))


def _draw(n: int, generator: torch.Generator) -> Images:
    x, y = torch.randn(n, 1, 12, 12, generator=generator), torch.randint(2, (n,), generator=generator)
    corners = torch.randint(1, 7, (n, 2), generator=generator).tolist()
    for image, kind, (top, left) in zip(x, y.tolist(), corners, strict=True):
        area = image[0, top : top + 5, left : left + 5]
        if kind == 0:
            area += 2
        else:
            area[2] += 3
            area[:, 2] += 3
    return Images(x, y)
