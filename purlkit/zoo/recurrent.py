"""FastGRNN (Kusupati et al. 2018): one pair of matrices for gate and state, each a product of two thin ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from purlkit.zoo.catalog import Shape


class FastGRNN(nn.Module):
    """Reads (n, C, H, W) as H·W steps of C features; the class is told from the last state.

    With hidden 80 and full matrices 7,444 parameters for HAR-2, which is the 29 KB of the paper's FastGRNN-LSQ.
    A matrix of rank r is `reduce` (r × inputs) and then `expand` (outputs × r): four prunable layers and the
    classifier, the columns of whose factors are what structured pruning removes.
    """

    def __init__(self, features: int, classes: int, hidden: int, input_rank: int, state_rank: int) -> None:
        super().__init__()
        self.W = _matrix(features, hidden, input_rank)
        self.U = _matrix(hidden, hidden, state_rank)
        self.gate_bias = nn.Parameter(torch.ones(hidden))
        self.update_bias = nn.Parameter(torch.ones(hidden))
        # How much of the new state and of the old goes on, before the sigmoid: the paper's zeta and nu.
        self.zeta = nn.Parameter(torch.ones(()))
        self.nu = nn.Parameter(torch.full((), -4.0))
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        driven = self.W(x.flatten(2).transpose(1, 2))  # all steps at once: only U has to wait for the state
        zeta, nu = self.zeta.sigmoid(), self.nu.sigmoid()
        state = driven.new_zeros(driven.shape[0], driven.shape[2])
        for step in driven.unbind(1):
            both = step + self.U(state)
            gate = (both + self.gate_bias).sigmoid()
            state = gate * state + (zeta * (1 - gate) + nu) * (both + self.update_bias).tanh()
        logits: Tensor = self.classifier(state)
        return logits


def _matrix(inputs: int, outputs: int, rank: int) -> nn.Module:
    if rank == 0:
        return nn.Linear(inputs, outputs, bias=False)
    thin = nn.Sequential()
    thin.add_module("reduce", nn.Linear(inputs, rank, bias=False))
    thin.add_module("expand", nn.Linear(rank, outputs, bias=False))
    return thin


def fastgrnn(*, shape: Shape = (9, 1, 128), classes: int = 2, hidden: int = 80, rW: int = 9, rU: int = 80) -> nn.Module:
    return FastGRNN(shape[0], classes, hidden, rW, rU)
