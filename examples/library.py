"""The library without the service: PuRL's search and a naive method on the same trained network, in one process.

.venv/bin/python examples/library.py
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch

import purlkit
from purlkit.spec import Dataset, FineTune, Training
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train
from purlkit.zoo.datasets import load
from purlkit.zoo.small import mlp

SPARSITY, EPISODES = 0.8, 10


def main() -> None:
    torch.manual_seed(0)
    digits = load(Dataset(name="digits"), Path())  # splits to train on, for the reward, to select by and to test
    dense = mlp(hidden=32)  # any module with convolutions or linear layers
    train(dense, digits.train, Training(epochs=10), seed=0)
    print(f"dense: {accuracy(dense, digits.test):.1%}")

    found = purlkit.search(dense, digits, sparsity=SPARSITY, episodes=EPISODES)
    print(f"PuRL's alphas, layer by layer: {', '.join(f'{alpha:.2f}' for alpha in found.alphas)}")
    searched, naive = copy.deepcopy(dense), copy.deepcopy(dense)
    found.apply(searched)
    lamp = purlkit.prune(naive, sparsity=SPARSITY, method="lamp")

    for name, model, mask in (("PuRL", searched, found.mask), ("LAMP", naive, lamp)):
        before = accuracy(model, digits.test)
        train(model, digits.train, FineTune(epochs=3), seed=0, mask=mask)  # what was removed stays zero
        print(f"{name}: {mask.sparsity:.1%} removed, {before:.1%}, fine-tuned {accuracy(model, digits.test):.1%}")


if __name__ == "__main__":
    main()
