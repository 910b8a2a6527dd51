"""The input side of a training beside its arithmetic: JPEGs that are read as they are needed, one batch ahead.

`OMP_NUM_THREADS=1 python -m benchmarks.streaming`: a pass over the same files read alone, trained on from memory, and
trained on as they are read. If nothing were hidden the third would take what the first two take together.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.step import in_turn
from purlkit import spec
from purlkit.spec import Training
from purlkit.training.data import Images
from purlkit.training.files import ImageFiles
from purlkit.training.loop import train
from purlkit.zoo import models

CLASSES = 10


def files(folder: Path, n: int, pixels: int) -> ImageFiles:
    """Of noise over a slope, in JPEG's usual quality."""
    chance = np.random.default_rng(0)
    names = [f"{number}.jpg" for number in range(n)]
    slope = np.linspace(0, 128, pixels)[None, :, None]
    for name in names:
        Image.fromarray((slope + chance.integers(0, 128, (pixels, pixels, 3))).astype(np.uint8)).save(folder / name)
    return ImageFiles(folder, names, torch.arange(n) % CLASSES, size=64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--pixels", type=int, default=256, help="of the files; 64 are trained on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="resnet18")
    asked = parser.parse_args()
    training = Training(epochs=1, batch_size=32, learning_rate=1e-4)
    model = models.build(spec.Model(name=asked.model), shape=(3, 64, 64), classes=CLASSES, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        stream = files(Path(folder), asked.images, asked.pixels)
        held: Images = stream[torch.arange(asked.images)]
        order = torch.randperm(asked.images)

        def read() -> None:
            for _ in stream.batches(order, -(-asked.images // 32), torch.Generator()):
                pass

        times = in_turn(
            {
                "read": read,
                "train": lambda: train(model, held, training, seed=0),
                "both": lambda: train(model, stream, training, seed=0),
            },
            rounds=asked.rounds,
        )
    rows = zip(times["read"], times["train"], times["both"], strict=True)
    for name, taken in times.items():
        print(f"{name:6} {asked.images / statistics.median(taken):8.0f} images a second")
    hidden = [(reading + training - both) / min(reading, training) for reading, training, both in rows]
    print(f"of the shorter of the two {statistics.median(hidden):.0%} is hidden behind the longer")


if __name__ == "__main__":
    main()
