"""The input side of a training beside its arithmetic: JPEGs that are read as they are needed, and such that are kept.

`python -m benchmarks.streaming`: a pass over the same files read alone and out of memory alone, trained on as finished
tensors, trained on as they are read, and trained on decoded once. If nothing were hidden, a training that reads would
take what reading and arithmetic take together.
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


def files(folder: Path, n: int, pixels: int, size: int) -> ImageFiles:
    """Of noise over a slope, in JPEG's usual quality."""
    chance = np.random.default_rng(0)
    names = [f"{number}.jpg" for number in range(n)]
    slope = np.linspace(0, 128, pixels)[None, :, None]
    for name in names:
        Image.fromarray((slope + chance.integers(0, 128, (pixels, pixels, 3))).astype(np.uint8)).save(folder / name)
    return ImageFiles(folder, names, torch.arange(n) % CLASSES, size=size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--pixels", type=int, default=256, help="of the files' sides")
    parser.add_argument("--size", type=int, default=64, help="of what is trained on")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    training = Training(epochs=1, batch_size=asked.batch, learning_rate=1e-4, precision=asked.precision)
    shape = (3, asked.size, asked.size)
    model = models.build(spec.Model(name=asked.model), shape=shape, classes=CLASSES, seed=0).to(asked.device)
    with tempfile.TemporaryDirectory() as folder:
        stream = files(Path(folder), asked.images, asked.pixels, asked.size).to(asked.device)
        sizes = stream.sizes(asked.images * asked.pixels**2 * 3)
        assert sizes is not None
        kept = stream.kept(sizes)
        tensors: Images = stream[:]
        order = torch.randperm(asked.images)

        def read(source: ImageFiles) -> None:
            for _ in source.batches(order, -(-asked.images // asked.batch), torch.Generator()):
                pass

        times = in_turn(
            {
                "read": lambda: read(stream),
                "out of memory": lambda: read(kept),
                "train": lambda: train(model, tensors, training, seed=0),
                "train and read": lambda: train(model, stream, training, seed=0),
                "train out of memory": lambda: train(model, kept, training, seed=0),
            },
            rounds=asked.rounds,
            sync=torch.cuda.synchronize if asked.device == "cuda" else lambda: None,
        )
    for name, taken in times.items():
        print(f"{name:20} {asked.images / statistics.median(taken):8.0f} images a second")
    for source, both in (("read", "train and read"), ("out of memory", "train out of memory")):
        rows = zip(times[source], times["train"], times[both], strict=True)
        hidden = [(input_ + arithmetic - whole) / min(input_, arithmetic) for input_, arithmetic, whole in rows]
        print(f"{both}: of the shorter of the two {statistics.median(hidden):.0%} is hidden behind the longer")


if __name__ == "__main__":
    main()
