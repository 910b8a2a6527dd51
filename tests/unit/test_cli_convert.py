"""Torch checkpoints become safetensors; what could run code does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from purlkit.cli.convert import convert
from purlkit.errors import BadWeightsFile


class Pwned:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


@pytest.mark.parametrize("wrapped", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_the_tensors_are_the_checkpoints(tmp_path: Path, wrapped: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    parallel = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(wrapped(parallel), tmp_path / "checkpoint.pt")

    tensors = convert(tmp_path / "checkpoint.pt", tmp_path / "out.safetensors")

    assert tensors == len(model.state_dict())
    nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).load_state_dict(load_file(tmp_path / "out.safetensors"))


def test_tied_tensors_are_written_twice(tmp_path: Path) -> None:
    shared = torch.arange(3.0)
    torch.save({"a": shared, "b": shared}, tmp_path / "tied.pt")

    convert(tmp_path / "tied.pt", tmp_path / "out.safetensors")

    assert load_file(tmp_path / "out.safetensors")["b"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("held", [{"weight": Pwned()}, nn.Linear(2, 2), {}, {"epoch": 3}])
def test_what_is_not_weights_is_refused_and_does_not_run(
    tmp_path: Path, held: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(held, tmp_path / "other.pt")

    with pytest.raises(BadWeightsFile, match=r"torch\.save"):
        convert(tmp_path / "other.pt", tmp_path / "out.safetensors")

    assert "code ran" not in capsys.readouterr().out
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_that_is_missing_or_no_checkpoint_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")

    for name in ("text.pt", "missing.pt"):
        with pytest.raises(BadWeightsFile, match=re.escape(name)):
            convert(tmp_path / name, tmp_path / "out.safetensors")
