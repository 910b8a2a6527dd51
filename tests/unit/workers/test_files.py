"""The winner's other files, made from its checkpoint as an attempt makes them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from purlkit import checkpoint
from purlkit.errors import CannotExport
from purlkit.results import COMPRESSED, ONNX
from purlkit.spec import JobSpec
from purlkit.zoo import models
from tests.unit.networks import some_images
from workers import files

SPEC = JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"sparsity": 0.5}}).resolve()


def attempt_in(folder: Path) -> tuple[Any, list[Any]]:
    events: list[Any] = []
    link = SimpleNamespace(event=lambda kind, data: events.append((kind, data)))
    checkpoint.write(folder / "pruned.safetensors", models.build_for(SPEC), metadata={})
    return cast(Any, SimpleNamespace(spec=SPEC, scratch=folder, link=link)), events


def test_gzip_and_onnx_stand_beside_the_checkpoint(tmp_path: Path) -> None:
    job, events = attempt_in(tmp_path)

    written = files.others(job, tmp_path / "pruned.safetensors", some_images(20))

    assert [path.name for path, _ in written] == [COMPRESSED, ONNX]
    assert all(path.stat().st_size for path, _ in written)
    assert events == []


def test_each_of_several_targets_has_files_called_as_its_checkpoint(tmp_path: Path) -> None:
    job, _ = attempt_in(tmp_path)
    path = (tmp_path / "pruned.safetensors").rename(tmp_path / "pruned-0.9.safetensors")

    written = files.others(job, path, some_images(20))

    assert [path.name for path, _ in written] == ["pruned-0.9.safetensors.gz", "pruned-0.9.onnx"]


def test_a_network_that_is_no_onnx_is_published_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, events = attempt_in(tmp_path)

    def refuse(*_: object) -> None:
        raise CannotExport("torch can't write this model as ONNX", remedy="use the safetensors file")

    monkeypatch.setattr(files, "write_onnx", refuse)

    assert [path.name for path, _ in files.others(job, tmp_path / "pruned.safetensors", some_images(20))] == [
        COMPRESSED
    ]
    assert events == [("note", {"onnx": "torch can't write this model as ONNX: use the safetensors file"})]
