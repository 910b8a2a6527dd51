"""The table of docs/protocol.md: purl-budget, its controls and the naive methods, unit by unit.

    python -m benchmarks.budget run --data digits --blocks 1 --sparsity 0.97 --unit 0 --file budget.jsonl
    python -m benchmarks.budget tell --file budget.jsonl

A run may be stopped at any time and goes on where it was; purl-budget's own search begins anew. Units from 100 on are
for development: `tell` leaves them out unless `--development` asks for them alone.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from benchmarks.units import NAIVE, Key, Lines, Unit
from benchmarks.yardstick import FIRST_DEVELOPMENT_UNIT
from purlkit.budget.allocation import Allocation, Budget
from purlkit.budget.halving import best_seen, halve, trainings
from purlkit.budget.rivals import RIVALS, Seen
from purlkit.budget.search import LONGER, default_settings, longer, search
from purlkit.budget.yardstick import Yardstick
from purlkit.seeds import derive
from purlkit.spec import FineTune
from purlkit.training.data import subset

RESAMPLES = 10_000
UNITS, FEWEST = 10, 5  # of a cell that claims something; of one that has a p-value at all
CONTENDERS = ("naive + budget", "purl-budget", *RIVALS)  # beside the naive methods
Row = dict[str, Any]


def run(lines: Lines, unit: Unit, sparsity: float) -> None:
    place: Key = (unit.data, unit.blocks, sparsity, unit.number)
    naive = unit.naive(sparsity)
    unit.each(lambda name: lines.once((*place, name), partial(unit.outcome, naive[name])), NAIVE)
    found = lines.once((*place, "purl-budget found"), partial(_found, unit, sparsity))
    best = _ranked({name: lines.rows[(*place, name)] for name in NAIVE})[0]
    epochs = round(found["images"] / len(unit.splits.train)) + FineTune().epochs
    works: dict[str, Callable[[], Any]] = {
        "purl-budget": partial(unit.outcome, tuple(found["allocation"])),
        "naive + budget": partial(unit.outcome, naive[best], epochs),
        **{name: partial(_rival, lines, place, unit, name, found) for name in RIVALS},
    }
    unit.each(lambda name: lines.once((*place, name), works[name]), list(works))


def _found(unit: Unit, sparsity: float) -> Row:
    splits = unit.splits.without_test()
    result = search(unit.copy(), splits, sparsity=sparsity, seed=unit.number, yardstick=unit.yardstick)
    naive = [list(each) for each in result.scouted.naive]
    known = {"allocation": result.allocation, "evaluations": result.evaluations, "images": result.images}
    return {**known, "naive": naive, "seconds": result.seconds, "losses": [e.loss for e in result.episodes]}


def _rival(lines: Lines, place: Key, unit: Unit, name: str, found: Row) -> Row:
    """From the same start, with as many evaluations of the same yardstick, and the same last choice.

    Every measurement is a line: a control that was stopped looks up what it had, and so do the other controls.
    """
    settings, sparsity = default_settings(unit.splits.train), float(place[2])
    images, model = subset(unit.splits.train, settings.retrain.images, unit.number), unit.copy()
    yardstick = unit.yardstick(model, images, unit.splits.reward, settings.retrain)
    last = unit.yardstick(model, images, unit.splits.reward, longer(settings.retrain))

    def short(allocation: Allocation) -> float:
        work = partial(_loss, yardstick, allocation, derive(unit.number, "retrain"))
        return float(lines.once((*place, "short", *allocation), work))

    def long(field: Sequence[Allocation], rung: int) -> list[float]:
        seed = derive(unit.number, "halving", rung)
        return unit.each(
            lambda a: float(lines.once((*place, f"long {rung}", *a), partial(_loss, last, a, seed))), field
        )

    naive: dict[Allocation, float] = {tuple(kept): loss for kept, loss in found["naive"]}
    seen = Seen(short, found["evaluations"], dict(naive))
    start = next(iter(naive))
    RIVALS[name](Budget.of(yardstick.layers, sparsity), start, settings.alphas, seen, derive(unit.number, name))

    entrants = list(dict.fromkeys([*best_seen(seen.losses.items()), *naive]))
    chosen = halve(entrants, long)
    trained = settings.images_retrained(len(seen.losses) + LONGER * trainings(len(entrants)))
    return {**unit.outcome(chosen), "allocation": chosen, "images": trained, "best loss": min(seen.losses.values())}


def _loss(yardstick: Yardstick, allocation: Allocation, seed: int) -> float:
    return yardstick(allocation, seed).loss


def _ranked(naive: dict[str, Row]) -> list[str]:
    """The naive methods, best first, by the select split alone."""
    return sorted(naive, key=lambda name: -mean(naive[name]["select"]))


def table(lines: Lines, *, development: bool) -> dict[Key, list[dict[str, float]]]:
    """Of each cell, for every unit that has its naive methods and purl-budget, the test accuracy of each contender."""
    units: dict[Key, Row] = defaultdict(dict)
    for (data, blocks, sparsity, unit, who, *_), value in lines.rows.items():
        units[data, blocks, sparsity, unit][str(who)] = value
    cells: dict[Key, list[dict[str, float]]] = defaultdict(list)
    for (*cell, number), row in sorted(units.items()):
        if not {*NAIVE, "purl-budget"} <= row.keys() or (int(number) >= FIRST_DEVELOPMENT_UNIT) != development:
            continue
        first, second = _ranked({name: row[name] for name in NAIVE})[:2]
        whose = {"naive": first, "second naive": second}
        whose |= {name: name for name in CONTENDERS if name in row}
        cells[tuple(cell)].append({told: mean(row[name]["test"]) for told, name in whose.items()})
    return cells


def bootstrap(differences: list[float], seed: int = 0) -> tuple[float, float, float]:
    """The 95 % interval of the mean over units, and the two-sided p-value of its being 0."""
    drawn = np.random.default_rng(seed).integers(len(differences), size=(RESAMPLES, len(differences)))
    means = np.array(differences)[drawn].mean(1)
    p = 2 * min((1 + (means <= 0).sum()) / (RESAMPLES + 1), (1 + (means >= 0).sum()) / (RESAMPLES + 1))
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)), min(1.0, float(p))


def holm(values: list[float]) -> list[float]:
    """Corrected for so many tests.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, worst = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        worst = max(worst, (len(values) - rank) * values[index])
        corrected[index] = min(1.0, worst)
    return corrected


def tell(lines: Lines, *, development: bool) -> None:
    cells = table(lines, development=development)
    for cell, units in cells.items():
        short = "" if len(units) >= UNITS else f", short of the protocol's {UNITS}: claims nothing"
        print(f"\n{cell}: {len(units)} units{short}")
        for who in dict.fromkeys(who for unit in units for who in unit):
            have = [unit[who] for unit in units if who in unit]
            print(f"  {who:15} {100 * mean(have):6.2f}" + (f" ({len(have)} units)" if len(have) < len(units) else ""))
    for who in ("naive", "second naive", "naive + budget", *RIVALS):
        compared = {c: [unit["purl-budget"] - unit[who] for unit in units if who in unit] for c, units in cells.items()}
        compared = {cell: differences for cell, differences in compared.items() if differences}
        enough = {c: bootstrap(d) for c, d in compared.items() if len(d) >= FEWEST}
        corrected = dict(zip(enough, holm([p for _, _, p in enough.values()]), strict=True))
        print(f"\npurl-budget less {who}")
        for cell, differences in compared.items():
            told = f"  {cell}: {100 * mean(differences):+.2f} ({len(differences)} units)"
            if cell in enough:
                low, high, _ = enough[cell]
                told += f", {100 * low:+.2f} to {100 * high:+.2f}, p {corrected[cell]:.3f}"
            print(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "tell"])
    parser.add_argument("--file", type=Path, default=Path("budget.jsonl"))
    parser.add_argument("--data", choices=["digits", "procedural"], default="digits")
    parser.add_argument("--blocks", type=int, default=1, help="in each stage: 1 makes 10 layers, 3 make 22")
    parser.add_argument("--sparsity", type=float, default=0.97)
    parser.add_argument("--unit", type=int, default=0)
    parser.add_argument("--development", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = Lines(asked.file)
    if asked.what == "run":
        run(lines, Unit(asked.data, asked.blocks, asked.unit), asked.sparsity)
    tell(lines, development=asked.development)


if __name__ == "__main__":
    main()
