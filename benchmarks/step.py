"""What one step of the search costs beyond the arithmetic that it can't do without.

    python -m benchmarks.step
    python -m benchmarks.step --model resnet50 --images 64 --batch 16 --rounds 5

Four times of the same batches are taken in turn, so that whatever else the machine does hits all alike:
- step: PruningEnv.step, that is the cut, the retraining under the mask, and the accuracy;
- bfloat16: the same with the retraining in `precision: bfloat16`, to choose that field of a spec by;
- training: forward, backward and SGD in a plain loop, then the forward passes of the accuracy;
- bare: the same without the optimiser, which is only what must be computed for gradients.
Then the plain loop in each memory layout and precision, to choose by.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from purlkit import spec
from purlkit.env import PruningEnv
from purlkit.training.data import Images, batches, subset
from purlkit.training.evaluate import accuracy, mode
from purlkit.zoo import catalog, models

Timed = Callable[[], object]


def main() -> None:
    asked = _arguments()
    torch.manual_seed(0)
    model, shape, classes = _network(asked.model)
    model = model.to(asked.device).to(memory_format=torch.channels_last)
    train, reward = (_images(n, shape, classes, asked.device) for n in (asked.images, asked.images // 4))
    retrain = spec.Retrain(images=asked.images, batch_size=asked.batch)
    env, rounded = (
        PruningEnv(
            network,
            subset(train, asked.images, 0),
            reward,
            search=spec.Search(retrain=retrain.model_copy(update={"precision": precision})),
            target_accuracy=0.5,
            target_sparsity=0.9,
            retrain_seed=0,
        )
        for network, precision in ((model, "float32"), (copy.deepcopy(model), "bfloat16"))
    )
    sync = torch.cuda.synchronize if _on_gpu(asked.device) else lambda: None
    flops = _flops(model, train, reward)

    times = in_turn(
        {
            "step": lambda: _step(env),
            "bfloat16": lambda: _step(rounded),
            "training": lambda: _plain(model, train, reward, asked.batch, _sgd(model, retrain)),
            "bare": lambda: _plain(model, train, reward, asked.batch, None),
        },
        rounds=asked.rounds,
        before=lambda: (env.reset(), rounded.reset()),
        sync=sync,
    )
    print(f"{asked.model}, {asked.images} images of {shape}, batch {asked.batch}, {_machine(asked.device)}")
    seen = len(train) + len(reward)
    peak = _matmul_peak(asked.device, torch.float32, sync)
    for name, rounds in times.items():
        seconds, ratio = statistics.median(rounds), ratio_of(rounds, times["bare"])
        print(
            f"{name:9} {seconds * 1000:9.1f} ms  {ratio:6.3f} x bare  {seen / seconds:9.0f} images/s"
            f"  {flops / seconds / peak:6.1%} of {peak / 1e9:.0f} GFLOP/s"
        )
    _compare_layouts(model, train, reward, asked, sync)


def in_turn(
    work: Mapping[str, Timed], *, rounds: int, before: Timed = lambda: None, sync: Timed = lambda: None
) -> dict[str, list[float]]:
    """The seconds of each in every round, measured alternately after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, run in work.items():
            before()
            sync()
            began = time.perf_counter()
            run()
            sync()
            if turn:
                taken[name].append(time.perf_counter() - began)
    return taken


def ratio_of(times: Sequence[float], others: Sequence[float]) -> float:
    """The median over the rounds of one time by the other's in the same round: a busy neighbour slows both."""
    return statistics.median(time / other for time, other in zip(times, others, strict=True))


def _step(env: PruningEnv) -> None:
    env.step(3)  # 0.6 deviations of the first layer


def _sgd(model: nn.Module, training: spec.Training) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        model.parameters(),
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=True,
        foreach=True,
    )


def _plain(
    model: nn.Module, train: Images, reward: Images, batch: int, optimizer: torch.optim.Optimizer | None
) -> None:
    """Forward and backward over the training images and forward over the others, as one writes it by hand."""
    with mode(model, training=True):
        for part in batches(train, batch, torch.Generator().manual_seed(0)):
            model.zero_grad()
            functional.cross_entropy(model(part.x), part.y).backward()
            if optimizer is not None:
                optimizer.step()
    accuracy(model, reward)


def _compare_layouts(model: nn.Module, train: Images, reward: Images, asked: argparse.Namespace, sync: Timed) -> None:
    """Each layout has a model of its own, so that all four can take turns."""

    def variant(layout: torch.memory_format, bf16: bool) -> Timed:
        laid_out = copy.deepcopy(model).to(memory_format=layout)
        parts = [Images(images.x.contiguous(memory_format=layout), images.y) for images in (train, reward)]

        def run() -> None:
            with torch.autocast(torch.device(asked.device).type, torch.bfloat16, enabled=bf16):
                _plain(laid_out, parts[0], parts[1], asked.batch, None)

        return run

    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    precisions = {"float32": False, "bf16 autocast": True}
    work = {f"{a}, {b}": variant(layouts[a], precisions[b]) for a in layouts for b in precisions}
    times = in_turn(work, rounds=asked.rounds, sync=sync)
    now = times["channels_last, float32"]
    for name, rounds in times.items():
        print(f"bare, {name}: {statistics.median(rounds) * 1000:.1f} ms, {ratio_of(rounds, now):.3f} x what is in use")


def _flops(model: nn.Module, train: Images, reward: Images) -> float:
    """Of one bare round. torch counts the backward pass of grouped convolutions many times over, so it is taken as
    twice the forward pass, which it counts right."""
    with FlopCounterMode(display=False) as counter:
        accuracy(model, train[:1])
    return float(counter.get_total_flops()) * (3 * len(train) + len(reward))


def _matmul_peak(device: str, dtype: torch.dtype, sync: Timed) -> float:
    """FLOP/s of the fastest of some square products: what this machine gives at best."""
    best = 0.0
    for side in (512, 1024, 2048):
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        [seconds] = in_turn({"mm": partial(torch.mm, left, right)}, rounds=7, sync=sync).values()
        best = max(best, 2 * side**3 / min(seconds))
    return best


def _network(name: str) -> tuple[nn.Module, tuple[int, int, int], int]:
    """One of the catalog's, for its own data set's images."""
    data = catalog.dataset(catalog.model(name).dataset)
    network = models.build(spec.Model(name=name), shape=data.shape, classes=data.classes, seed=0)
    return network, data.shape, data.classes


def _images(n: int, shape: tuple[int, int, int], classes: int, device: str) -> Images:
    """Noise: arithmetic takes as long on it as on pictures."""
    x = torch.randn(n, *shape).to(device).contiguous(memory_format=torch.channels_last)
    return Images(x, torch.randint(classes, (n,)).to(device))


def _on_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


def _machine(device: str) -> str:
    where = torch.cuda.get_device_name(device) if _on_gpu(device) else f"{torch.get_num_threads()} threads, no GPU"
    return f"{where}, torch {torch.__version__}, Python {platform.python_version()}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits-resnet", help="one of ours or of torchvision's")
    parser.add_argument("--images", type=int, default=1000, help="to retrain on; a quarter as many measure accuracy")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
