"""Which cheap number predicts what fine-tuning gives an allocation? Spearman's rank correlation, by docs/protocol.md.

    python -m benchmarks.yardstick run --sparsity 0.97 --unit 100 --file yardstick.jsonl
    python -m benchmarks.yardstick tell --file yardstick.jsonl

A run may be stopped at any time and goes on where it was. Units below 100 are the final table's and are refused.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.units import FINE_TUNE_SEEDS, Key, Lines, Unit, loss_on
from purlkit.budget.allocation import Allocation, Budget, log_shares
from purlkit.budget.yardstick import Yardstick
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.seeds import derive
from purlkit.spec import Retrain, Training

FIRST_DEVELOPMENT_UNIT = 100
ALLOCATIONS = 16
SPREAD = 0.5
EPOCHS = (1, 3, 5)
STARTS = ("dense", "tuned", "rewound")


def allocations(unit: Unit, sparsity: float) -> list[Allocation]:
    """LAMP's, and others around it."""
    lamp = unit.naive(sparsity)["lamp"]
    budget = Budget.of(prunable_layers(unit.dense), sparsity)
    drawn = np.random.default_rng(derive(unit.number, "allocations"))
    around = [
        budget.divided(list(np.array(log_shares(lamp)) + SPREAD * drawn.standard_normal(len(lamp))))
        for _ in range(ALLOCATIONS - 1)
    ]
    return [lamp, *around]


def start_of(unit: Unit, name: str, sparsity: float) -> nn.Module:
    """The network that the cheap training of an allocation begins with."""
    if name == "dense":
        return unit.copy()
    if name == "rewound":
        return unit.trained(Training().epochs // 3)
    lamp = unit.naive(sparsity)["lamp"]
    return grown_back(unit.dense, unit.fine_tuned(lamp, seed=FINE_TUNE_SEEDS), unit.mask_of(lamp))


@torch.no_grad()
def grown_back(dense: nn.Module, tuned: nn.Module, mask: Mask) -> nn.Module:
    """The tuned network, with the dense value of every weight that it lacks."""
    for before, after in zip(prunable_layers(dense), prunable_layers(tuned), strict=True):
        after.weight.copy_(torch.where(mask.keep[after.name], after.weight, before.weight))
    return tuned


def run(lines: Lines, unit: Unit, sparsity: float) -> None:
    splits, tried = unit.splits, allocations(unit, sparsity)
    place: Key = (unit.data, unit.blocks, unit.number, sparsity)
    for number, allocation in enumerate(tried):
        for seed in range(FINE_TUNE_SEEDS):
            lines.once((*place, "reference", number, seed), partial(reference, unit, allocation, seed))
    for start in STARTS:
        if all((*place, f"{start} {e}", n) in lines.rows for e in EPOCHS for n in range(len(tried))):
            continue
        begun = start_of(unit, start, sparsity)
        for epochs in EPOCHS:
            training = Retrain(epochs=epochs, images=len(splits.train))
            worth = Yardstick(begun, splits.train, splits.reward, training)
            for number, allocation in enumerate(tried):
                # Which weights of a layer stay is decided by the dense network, as it is at the end.
                worth.mask_of = unit.mask_of  # type: ignore[method-assign]
                lines.once((*place, f"{start} {epochs}", number), partial(cheap, worth, allocation, seed=unit.number))


def reference(unit: Unit, allocation: Allocation, seed: int) -> float:
    return loss_on(unit.fine_tuned(allocation, seed), unit.splits.select, unit.splits.test)


def cheap(worth: Yardstick, allocation: Allocation, *, seed: int) -> dict[str, float]:
    return vars(worth(allocation, derive(seed, "retrain")))


def spearman(a: list[float], b: list[float]) -> float:
    """Pearson's correlation of the ranks, equal values sharing theirs.

    >>> round(spearman([1.0, 2.0, 3.0], [10.0, 30.0, 20.0]), 3)
    0.5
    """
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: list[float]) -> Any:
    numbers = np.array(values)
    return (numbers[:, None] > numbers).sum(1) + (numbers[:, None] == numbers).sum(1) / 2


def correlations(lines: Lines) -> Iterator[tuple[str, Key, float, float]]:
    """Of each cheap number with the reference: which one, where, by its loss and by its accuracy."""
    table: dict[Key, dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for (data, blocks, unit, sparsity, what, number, *_), value in lines.rows.items():
        column = table[data, blocks, unit, sparsity][str(what)]
        if what == "reference":
            column.setdefault(int(number), []).append(value)
        else:
            column[int(number)] = value
    for place, columns in table.items():
        reference = {n: sum(of) for n, of in columns.pop("reference", {}).items() if len(of) == FINE_TUNE_SEEDS}
        for what, column in sorted(columns.items()):
            both = sorted(column.keys() & reference.keys())
            if len(both) == ALLOCATIONS:
                final = [reference[n] for n in both]
                losses, accuracies = [column[n]["loss"] for n in both], [-column[n]["accuracy"] for n in both]
                yield what, place, spearman(losses, final), spearman(accuracies, final)


def tell(lines: Lines) -> None:
    gathered: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for what, place, by_loss, by_accuracy in correlations(lines):
        print(f"{what:10} {place}  loss {by_loss:.2f}  accuracy {by_accuracy:.2f}")
        gathered[what].append((by_loss, by_accuracy))
    for what, pairs in gathered.items():
        print(f"{what:10} mean of {len(pairs)}: loss {np.mean([p[0] for p in pairs]):.2f}, "
              f"accuracy {np.mean([p[1] for p in pairs]):.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "tell"])
    parser.add_argument("--file", type=Path, default=Path("yardstick.jsonl"))
    parser.add_argument("--data", choices=["digits", "procedural"], default="digits")
    parser.add_argument("--blocks", type=int, default=1, help="in each stage: 1 makes 10 layers, 3 make 22")
    parser.add_argument("--sparsity", type=float, default=0.97)
    parser.add_argument("--unit", type=int, default=FIRST_DEVELOPMENT_UNIT)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.unit < FIRST_DEVELOPMENT_UNIT:
        parser.error(f"units below {FIRST_DEVELOPMENT_UNIT} are the final table's: name a higher one")
    lines = Lines(asked.file)
    if asked.what == "run":
        run(lines, Unit(asked.data, asked.blocks, asked.unit), asked.sparsity)
    tell(lines)


if __name__ == "__main__":
    main()
