"""Images that are read from their files when they are needed: no more than two batches are in memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from purlkit.errors import MissingData
from purlkit.training.data import ALL, Images, Share

# What published weights expect.
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

Box = tuple[float, float, float, float]

_CPU = torch.device("cpu")
# The usual 224 of 256 pixels.
CENTRE = 0.875
# Larger ones are refused: a file of a few bytes can claim to be any size.
MOST_PIXELS = 2**26


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Files below `root` with their classes: the centre when measured, a random part at random size when trained on."""

    root: Path
    paths: Sequence[str]
    y: Tensor
    size: int
    device: torch.device = _CPU

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> torch.Size:
        return torch.Size([3, self.size, self.size])

    @property
    def nbytes(self) -> int:
        return 0

    def to(self, device: torch.device | str) -> ImageFiles:
        return replace(self, device=torch.device(device))

    def __getitem__(self, index: Tensor | slice) -> Images:
        chosen = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index]
        with _readers() as pool:
            return self._read(chosen, [None] * len(chosen), pool)

    def part(self, index: Tensor) -> ImageFiles:
        """Some of the files, still unread."""
        return replace(self, paths=[self.paths[i] for i in index.tolist()], y=self.y[index])

    def batches(
        self, order: Tensor, parts: int, generator: torch.Generator, *, share: Share = ALL, skip: int = 0
    ) -> Iterator[Images]:
        """While one batch is trained on, the next is being read."""
        views = ((index, torch.rand(len(index), 5, generator=generator)) for index in order.tensor_split(parts))
        with _readers() as pool, ThreadPoolExecutor(1) as ahead:
            coming = (
                ahead.submit(self._read, index[mine], drawn[mine].tolist(), pool)
                for number, (index, drawn) in enumerate(views)
                for mine in (share.part(len(index)),)
                if number >= skip
            )
            batch = next(coming)
            for following in coming:
                yield batch.result()
                batch = following
            yield batch.result()

    def _read(self, index: Tensor, draws: Sequence[list[float] | None], pool: ThreadPoolExecutor) -> Images:
        pixels = np.empty((len(index), self.size, self.size, 3), np.uint8)

        def read(place: int, number: int, view: list[float] | None) -> None:
            pixels[place] = self._pixels(self.paths[number], view)

        for _ in pool.map(read, range(len(index)), index.tolist(), draws):
            pass
        x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - MEAN) / STD
        return Images(x.to(self.device), self.y[index].to(self.device))

    def _pixels(self, path: str, draws: list[float] | None) -> NDArray[np.uint8]:
        try:
            with Image.open(self.root / path) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise ValueError(f"more than {MOST_PIXELS} pixels")
                box = _centre(width, height) if draws is None else _random_box(draws, width, height)
                shown = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR, box)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MissingData(
                f"the image {path} can't be read", at="/dataset/name", remedy="replace it, or take it out of its folder"
            ) from error
        pixels = np.array(shown)
        return pixels if draws is None or draws[4] < 0.5 else pixels[:, ::-1]


def _readers() -> ThreadPoolExecutor:
    """Decoding lets other threads run."""
    return ThreadPoolExecutor(min(16, len(os.sched_getaffinity(0))), thread_name_prefix="image")


def _centre(width: int, height: int) -> Box:
    side = CENTRE * min(width, height)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def _random_box(draws: list[float], width: int, height: int) -> Box:
    """8 to 100 % of the area, 3:4 to 4:3, anywhere: as Inception was trained, but cut to fit and not drawn again."""
    area, shape, across, down, _ = draws
    side = math.sqrt((0.08 + 0.92 * area) * width * height)
    ratio = math.exp((2 * shape - 1) * math.log(4 / 3) / 2)
    wide, high = min(side * ratio, width), min(side / ratio, height)
    left, upper = across * (width - wide), down * (height - high)
    # Adding the two may pass the edge by a rounding error, which Pillow refuses.
    return left, upper, min(left + wide, width), min(upper + high, height)
