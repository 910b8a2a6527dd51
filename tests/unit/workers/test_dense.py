"""The trained network that a job begins with: an upload that does not fit is refused before its tensors are read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from purlkit import checkpoint
from purlkit.errors import WeightsDontFit
from purlkit.spec import JobSpec
from purlkit.zoo import datasets
from tests.unit.networks import digits_net
from workers.dense import dense_baseline


def test_an_upload_for_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    checkpoint.write(path, digits_net(width=4), metadata={})
    spec = JobSpec.model_validate(
        {"model": {"name": "digits-resnet", "weights": {"sha256": "0" * 64}}, "targets": {"sparsity": 0.9}}
    ).resolve()
    job = SimpleNamespace(spec=spec, device="cpu", saved=lambda _: None)
    monkeypatch.setattr(checkpoint.files, "safe_open", None)  # no tensor can be read

    with pytest.raises(WeightsDontFit, match=r"conv1\.weight is float32\[4, 4, 3, 3\] and not float32\[16, 16, 3, 3\]"):
        dense_baseline(job, datasets.digits(tmp_path), path)
