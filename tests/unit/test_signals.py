"""UCI HAR in its text files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from purlkit import spec
from purlkit.errors import MissingData
from purlkit.training.data import Splits
from purlkit.zoo import datasets
from purlkit.zoo.signals import FOLDER, SIGNALS


def write_har(root: Path, *, people: int = 8, windows: int = 6) -> None:
    """A window of person p, activity a has the signal s at p + a / 10 + s / 100 plus its step / 10⁵."""
    for part, numbers in (("train", range(1, people + 1)), ("test", range(people + 1, people + 3))):
        folder = root / FOLDER / part
        (folder / "Inertial Signals").mkdir(parents=True)
        rows = [(person, window % 6 + 1) for person in numbers for window in range(windows)]
        np.savetxt(folder / f"subject_{part}.txt", [person for person, _ in rows], fmt="%d")
        np.savetxt(folder / f"y_{part}.txt", [activity for _, activity in rows], fmt="%d")
        for place, signal in enumerate(SIGNALS):
            table = [[p + a / 10 + place / 100 + step / 1e5 for step in range(128)] for p, a in rows]
            np.savetxt(folder / "Inertial Signals" / f"{signal}_{part}.txt", table, fmt="% .7e")


def load(root: Path, name: str = "har") -> Splits:
    return datasets.load(spec.Dataset(name=name), root)


def test_its_nine_signals_and_six_activities(tmp_path: Path) -> None:
    write_har(tmp_path)

    splits = load(tmp_path)

    assert splits.sizes == {"train": 24, "reward": 12, "select": 12, "test": 12}
    assert splits.train.shape == (9, 1, 128)
    assert splits.test[:].y.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert splits.train[:].x.mean((0, 2, 3)).tolist() == pytest.approx([0] * 9, abs=1e-4)
    assert splits.train[:].x.std((0, 2, 3)).tolist() == pytest.approx([1] * 9, abs=1e-3)
    steps = splits.test[:1].x[0, 0, 0]
    assert bool((steps.diff() > 0).all()), "time runs along the width"


def test_nobody_is_in_two_splits(tmp_path: Path) -> None:
    """Windows overlap by half: one person's would be known before they are measured."""
    write_har(tmp_path)
    splits = load(tmp_path)
    levels = torch.cat([part[:].x[:, 0, 0, 0] for part in (splits.train, splits.reward, splits.select, splits.test)])
    # Persons are 1 apart and activities 0.1; undo the scaling by two windows that are known.
    unit = (levels[-6] - levels[-12]).item()

    people = [
        {
            round((float(x) - 0.1 * unit * (y + 1)) / unit, 1)
            for x, y in zip(part[:].x[:, 0, 0, 0], part[:].y.tolist(), strict=True)
        }
        for part in (splits.train, splits.reward, splits.select, splits.test)
    ]

    assert [len(group) for group in people] == [4, 2, 2, 2]
    assert len(set.union(*people)) == 10


def test_har2_merges_them_into_two(tmp_path: Path) -> None:
    write_har(tmp_path)

    # walking, upstairs, downstairs, sitting, standing, lying
    assert load(tmp_path, "har2").test[:].y.tolist() == [0, 1, 0, 1, 0, 1] * 2


def test_missing_files_are_named_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"missing.*Inertial Signals.*archive\.ics\.uci\.edu"):
        load(tmp_path)
    write_har(tmp_path)
    (tmp_path / FOLDER / "train" / "Inertial Signals" / "total_acc_y_train.txt").unlink()
    with pytest.raises(MissingData, match="missing"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("y_test.txt", "7\n" * 12),
        ("y_test.txt", "1\n" * 11),
        ("y_test.txt", "walking\n" * 12),
        ("Inertial Signals/body_acc_x_test.txt", (" 0.0" * 127 + "\n") * 12),
        ("Inertial Signals/body_acc_x_test.txt", (" nan" * 128 + "\n") * 12),
        ("Inertial Signals/body_acc_x_test.txt", ""),
    ],
    ids=["no activity", "a window less", "a word", "a step less", "not a number", "empty"],
)
@pytest.mark.filterwarnings("ignore:loadtxt. input contained no data:UserWarning")
def test_damaged_files_are_refused(file: str, content: str, tmp_path: Path) -> None:
    write_har(tmp_path)
    (tmp_path / FOLDER / "test" / file).write_text(content)

    with pytest.raises(MissingData, match="are damaged"):
        load(tmp_path)
