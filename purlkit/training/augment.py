"""What training does to a batch of small images: He et al.'s crops and mirrors, on whatever device the images are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PADDING = 4


def crop_and_mirror(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to 4 pixels, the mean colour coming in at the border, and every second one mirrored.

    All is drawn from the generator, on the CPU: so a batch is augmented in the same way on every device.
    """
    n, channels, height, width = x.shape
    down, right = torch.randint(2 * PADDING + 1, (2, n), generator=generator).to(x.device)
    mirrored = (torch.rand(n, generator=generator) < 0.5).to(x.device)
    columns = torch.arange(width, device=x.device).expand(n, width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns) + right[:, None]
    rows = torch.arange(height, device=x.device) + down[:, None]
    padded = functional.pad(x, (PADDING, PADDING, PADDING, PADDING))
    image, channel = torch.arange(n, device=x.device), torch.arange(channels, device=x.device)
    moved = padded[
        image[:, None, None, None], channel[None, :, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]
    return moved.contiguous(memory_format=torch.channels_last)
