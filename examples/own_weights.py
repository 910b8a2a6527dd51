"""Weights that you trained: they go up as safetensors, and the pruned ones load into the same network again.

make serve
.venv/bin/python examples/own_weights.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from purlkit.client import PurlClient
from purlkit.spec import Dataset
from purlkit.training.data import Images
from purlkit.zoo.datasets import load
from purlkit.zoo.small import mlp

FOLDER = Path("out")


def main() -> None:
    digits = load(Dataset(name="digits"), Path())
    model = mlp(hidden=32)
    train(model, digits.train)
    FOLDER.mkdir(exist_ok=True)
    save_file(model.state_dict(), FOLDER / "dense.safetensors")  # `purl weights convert` makes one of a .pt file
    with PurlClient() as purl:
        uploaded = purl.upload(FOLDER / "dense.safetensors")
        spec = {
            "model": {"name": "mlp", "kwargs": {"hidden": 32}, "weights": {"sha256": uploaded.sha256}},
            "targets": {"sparsity": 0.8},
            "search": {"episodes": 12, "retrain": {"epochs": 2}},
            "fine_tune": {"epochs": 2},
        }
        check = purl.check(spec)  # a dry run: layers, reachable sparsities, cost, and why it can't run if it can't
        print(f"{check['prunable_weights']:,} prunable weights, reachable sparsity {check['sparsity_range']}")
        if not check["runnable"]:
            raise SystemExit("\n".join(reason["message"] for reason in check["reasons"]))
        job = purl.submit(spec).wait()
        print(job.result.verdict)
        [path] = job.download(FOLDER, "pruned.safetensors")
    model.load_state_dict(load_file(path))
    print(f"loaded again: {accuracy(model, digits.test):.1%} on the test split")


def train(model: nn.Module, images: Images, epochs: int = 5) -> None:
    """Any training of yours."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images.x[batch]), images.y[batch]).backward()
            optimizer.step()


def accuracy(model: nn.Module, images: Images) -> float:
    with torch.inference_mode():
        return (model(images.x).argmax(1) == images.y).double().mean().item()


if __name__ == "__main__":
    main()
