"""Steps of the search on shares of one GPU: a large network, procedural images, 1, 2 and 4 runners with real Ray.

`python -m benchmarks.fractions` on a machine with a GPU. Without one the runners share the CPUs, which shows that the
command works and nothing else: `python -m benchmarks.fractions --images 4 --size 64 --batch 4 --steps 1 --runners 1 2`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import ray
import torch
import torchvision

from purlkit.env import PruningEnv
from purlkit.spec import Retrain, Search
from purlkit.training.data import Images
from workers import cluster
from workers.search import keep_to_share

CLASSES = 10


def procedural(images: int, size: int, device: str) -> Images:
    """Stripes whose direction is the class, under noise."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(CLASSES, (images,), generator=generator)
    across = torch.linspace(0, 20, size)
    angle = (y * torch.pi / CLASSES).view(-1, 1, 1)
    stripes = torch.sin(across.view(1, -1, 1) * angle.cos() + across.view(1, 1, -1) * angle.sin())
    x = stripes.unsqueeze(1).expand(-1, 3, -1, -1) + 0.5 * torch.randn(images, 3, size, size, generator=generator)
    return Images(x.to(device).to(memory_format=torch.channels_last), y.to(device))


class Walker:
    """A runner's environment without RLlib around it."""

    def __init__(self, options: dict[str, Any], share: float) -> None:
        torch.set_num_threads(1)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cuda":
            keep_to_share(share)
        model = torchvision.models.get_model(options["model"], num_classes=CLASSES).to(self.device)
        images = procedural(options["images"], options["size"], self.device)
        self.env = PruningEnv(
            model.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            images,
            images,
            search=Search(retrain=Retrain(images=options["images"], batch_size=options["batch"])),
            target_accuracy=1.0,
            target_sparsity=0.9,
            retrain_seed=0,
        )
        self.env.reset()
        self.env.step(0)  # what is done once, such as the choice of kernels, is done

    def steps(self, count: int) -> float:
        """Seconds for so many. Each ends with an accuracy that is read back, so nothing is left under way."""
        began = time.monotonic()
        for _ in range(count):
            self.env.step(3)
        return time.monotonic() - began

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_reserved() if self.device == "cuda" else 0


def measure(options: dict[str, Any]) -> None:
    """All runners are there from the start, each with its share; those that do not play only hold memory."""
    on_gpu, most, began = torch.cuda.is_available(), max(options["runners"]), time.monotonic()
    actor = ray.remote(num_cpus=0.01, num_gpus=1 / most if on_gpu else 0)(Walker)
    walkers = [actor.remote(options, 1 / most) for _ in range(most)]
    ray.get([walker.peak_bytes.remote() for walker in walkers], timeout=600)
    print(f"{most} runners were ready after {time.monotonic() - began:.0f} s\nrunners  share", flush=True)
    for runners in options["runners"]:
        playing, began = walkers[:runners], time.monotonic()
        ray.get([walker.steps.remote(options["steps"]) for walker in playing], timeout=3600)
        wall = time.monotonic() - began
        peaks = ray.get([walker.peak_bytes.remote() for walker in playing], timeout=60)
        memory = f"{max(peaks) / 2**30:.2f} GiB each" if on_gpu else "not on a GPU"
        print(
            f"{runners:>7}  {1 / most:>5.2f}  {runners * options['steps'] / wall:>7.3f} steps/s  {memory}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--runners", type=int, nargs="+", default=[1, 2, 4])
    options = vars(parser.parse_args())
    cluster.quiet()
    with cluster.connected(""):
        print(f"{options['model']}, {options['images']} images of {options['size']}², batch {options['batch']}")
        measure(options)


if __name__ == "__main__":
    main()
