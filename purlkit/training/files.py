"""Images in files: those of a small set are decoded once and kept, those of a large one are read as they are needed.

Either way training sees the same bits. Of what is read no more than three batches are in memory.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from purlkit.errors import MissingData
from purlkit.storage.places import Place
from purlkit.training.data import ALL, Images, Share, Splits

# What published weights expect.
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

Box = tuple[float, float, float, float]

_CPU = torch.device("cpu")
# The usual 224 of 256 pixels.
CENTRE = 0.875
# Larger ones are refused: a file of a few bytes can claim to be any size.
MOST_PIXELS = 2**26
# Batches that are being read while another is trained on: with one the readers would wait for its last image.
AHEAD = 2
MOST_READERS = 16


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pixels of images of any size, one behind the other, as numpy has them: pickle hands them over without a copy."""

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]  # width and height of each

    def __getitem__(self, number: int) -> Image.Image:
        (width, height), start = self.sizes[number].tolist(), int(self.starts[number])
        return Image.frombuffer("RGB", (width, height), self.content[start : start + 3 * width * height])

    def part(self, index: NDArray[np.int64]) -> Decoded:
        return Decoded(self.content, self.starts[index], self.sizes[index])


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Files below `root` with their classes: the centre when measured, a random part at random size when trained on."""

    root: Place
    paths: Sequence[str]
    y: Tensor
    size: int
    device: torch.device = _CPU
    decoded: Decoded | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> torch.Size:
        return torch.Size([3, self.size, self.size])

    @property
    def nbytes(self) -> int:
        return 0 if self.decoded is None else self.decoded.content.nbytes

    def to(self, device: torch.device | str) -> ImageFiles:
        return replace(self, device=torch.device(device))

    def __getitem__(self, index: Tensor | slice) -> Images:
        chosen = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index]
        with _readers(self.root) as pool:
            return self._read(chosen, [None] * len(chosen), pool)

    def part(self, index: Tensor) -> ImageFiles:
        """Some of the files."""
        decoded = self.decoded and self.decoded.part(index.numpy())
        return replace(self, paths=[self.paths[i] for i in index.tolist()], y=self.y[index], decoded=decoded)

    def sizes(self, most: int) -> NDArray[np.int64] | None:
        """Width and height of each; None as soon as their pixels are more than so many bytes."""
        found: list[tuple[int, int]] = []
        # A file here is looked at in no time, one elsewhere must come first.
        at_once = 1 if isinstance(self.root, Path) else MOST_READERS
        with _readers(self.root) as pool:
            for start in range(0, len(self), at_once):
                sizes = list(pool.map(self._size, self.paths[start : start + at_once]))
                most -= 3 * sum(map(math.prod, sizes))
                if most < 0:
                    return None
                found += sizes
        return np.array(found, np.int64).reshape(-1, 2)

    def _size(self, path: str) -> tuple[int, int]:
        with self._open(path) as image:
            return image.size

    def kept(self, sizes: NDArray[np.int64]) -> ImageFiles:
        """With all their pixels in memory."""
        ends = 3 * sizes.prod(1).cumsum()
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        content = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)

        def decode(number: int) -> None:
            with self._open(self.paths[number]) as image:
                content[starts[number] : ends[number]] = np.asarray(image.convert("RGB")).reshape(-1)

        with _readers(self.root) as pool:
            for _ in pool.map(decode, range(len(self))):
                pass
        return replace(self, decoded=Decoded(content, starts, sizes))

    def batches(
        self, order: Tensor, parts: int, generator: torch.Generator, *, share: Share = ALL, skip: int = 0
    ) -> Iterator[Images]:
        """While one batch is trained on, the next ones are being read."""
        views = ((index, torch.rand(len(index), 5, generator=generator)) for index in order.tensor_split(parts))
        coming: deque[Future[Images]] = deque()
        with _readers(self.root) as pool, ThreadPoolExecutor(AHEAD) as ahead:
            for number, (index, drawn) in enumerate(views):
                if number < skip:
                    continue
                mine = share.part(len(index))
                coming.append(ahead.submit(self._read, index[mine], drawn[mine].tolist(), pool))
                if len(coming) > AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def _read(self, index: Tensor, draws: Sequence[list[float] | None], pool: ThreadPoolExecutor) -> Images:
        pixels = np.empty((len(index), self.size, self.size, 3), np.uint8)

        def read(place: int, number: int, view: list[float] | None) -> None:
            pixels[place] = self._pixels(number, view)

        for _ in pool.map(read, range(len(index)), index.tolist(), draws):
            pass
        # As bytes they are a quarter of the way to a GPU.
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        x = (x / 255 - MEAN.to(self.device)) / STD.to(self.device)
        return Images(x, self.y[index].to(self.device))

    def _pixels(self, number: int, draws: list[float] | None) -> NDArray[np.uint8]:
        if self.decoded is not None:
            shown = self._seen(self.decoded[number], draws)
        else:
            with self._open(self.paths[number]) as image:
                shown = self._seen(image.convert("RGB"), draws)
        pixels = np.array(shown)
        return pixels if draws is None or draws[4] < 0.5 else pixels[:, ::-1]

    def _seen(self, image: Image.Image, draws: list[float] | None) -> Image.Image:
        box = _centre(*image.size) if draws is None else _random_box(draws, *image.size)
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR, box)

    @contextmanager
    def _open(self, path: str) -> Iterator[Image.Image]:
        try:
            with (self.root / path).open("rb") as file, Image.open(file) as image:
                if math.prod(image.size) > MOST_PIXELS:
                    raise ValueError(f"more than {MOST_PIXELS} pixels")
                yield image
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MissingData(
                f"the image {path} can't be read", at="/dataset/name", remedy="replace it, or take it out of its folder"
            ) from error


def kept_in_memory(splits: Splits, most: int) -> Splits:
    """All files but the test split's decoded once, where their pixels are no more than so many bytes; else as they are.

    The test split is read at the end, and once.
    """
    found = {}
    for name in ("train", "reward", "select"):
        part = getattr(splits, name)
        if isinstance(part, ImageFiles):
            sizes = part.sizes(most)
            if sizes is None:
                return splits
            most -= 3 * int(sizes.prod(1).sum())
            found[name] = part, sizes
    return replace(splits, **{name: part.kept(sizes) for name, (part, sizes) in found.items()})


def _readers(root: Place) -> ThreadPoolExecutor:
    """Decoding lets other threads run, and what is fetched is waited for."""
    threads = min(MOST_READERS, len(os.sched_getaffinity(0))) if isinstance(root, Path) else MOST_READERS
    return ThreadPoolExecutor(threads, thread_name_prefix="image")


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
