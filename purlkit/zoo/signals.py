"""UCI HAR: what a phone at the hip felt while its owner walked, climbed, sat, stood or lay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from purlkit.training.data import Splits
from purlkit.zoo import catalog
from purlkit.zoo.splitting import missing, normalised, shuffled

FOLDER = "UCI HAR Dataset"
SIGNALS = [f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]
STEPS, ACTIVITIES = 128, 6

# Walking, upstairs, downstairs, sitting, standing, lying. FastGRNN's paper merges sitting, lying and upstairs against
# the rest.
MERGED = torch.tensor([0, 1, 0, 1, 0, 1])

# People who train nothing: two for the reward split, two for the select split. Windows of one person overlap by half,
# so a split by windows would show the reward what was trained on.
HELD_OUT = 2


def har(root: Path) -> Splits:
    return _splits(root, torch.arange(ACTIVITIES), "har")


def har2(root: Path) -> Splits:
    return _splits(root, MERGED, "har2")


def _splits(root: Path, classes: Tensor, name: str) -> Splits:
    """Shape (9, 1, 128): signals as channels, steps along the width. The official test people are the test split."""
    try:
        (x, y, people), (x_test, y_test, _) = (_part(root / FOLDER, part) for part in ("train", "test"))
    except FileNotFoundError as error:
        raise missing(catalog.dataset(name)) from error
    except (OSError, ValueError) as error:
        raise missing(catalog.dataset(name), "are damaged") from error
    everyone = people.unique()
    order = everyone[shuffled(len(everyone))]
    groups = order[2 * HELD_OUT :], order[:HELD_OUT], order[HELD_OUT : 2 * HELD_OUT]
    parts = [torch.isin(people, group) for group in groups]
    return normalised([*((x[part], classes[y[part]]) for part in parts), (x_test, classes[y_test])])


def _part(folder: Path, part: str) -> tuple[Tensor, Tensor, Tensor]:
    """Signals (n, 9, 1, 128), activities from 0, and who it was."""
    activities = _table(folder / part / f"y_{part}.txt", 1, np.int64)[:, 0] - 1
    people = _table(folder / part / f"subject_{part}.txt", 1, np.int64)[:, 0]
    signals = torch.stack(
        [_table(folder / part / "Inertial Signals" / f"{s}_{part}.txt", STEPS, np.float32) for s in SIGNALS], 1
    )
    if not len(signals) == len(activities) == len(people):
        raise ValueError("files of different lengths")
    if not bool(((activities >= 0) & (activities < ACTIVITIES)).all()) or not bool(signals.isfinite().all()):
        raise ValueError("no activity, or no number")
    return signals.unsqueeze(2), activities, people


def _table(path: Path, columns: int, kind: type) -> Tensor:
    table: NDArray[Any] = np.loadtxt(path, dtype=kind, ndmin=2)
    if table.shape[1] != columns:
        raise ValueError(f"{table.shape[1]} columns")
    return torch.from_numpy(table)
