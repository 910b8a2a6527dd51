"""Structured pruning of low-rank matrices by whole columns, as global magnitude pruning does it on FastGRNN."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from purlkit.baselines.global_magnitude import global_magnitude
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask


def prune_columns(matrices: Sequence[PrunableLayer], sparsity: float, *, floor: int = 1) -> Mask:
    """Ranks the columns of all matrices together by the sum of their magnitudes, and removes the lowest.

    `sparsity` is the share of all columns, and exact in columns: weights can't be, for the matrices differ in height.
    A column is ranked and floored, and refused, as a weight is by `global_magnitude`: a column of zeros is removed
    already, of equals the first stays, and each matrix keeps its `floor` highest.

    Where the matrix is one factor of a product, the same columns of the other factor meet zeros from then on.
    """
    sums = [
        PrunableLayer(matrix.name, matrix.kind, nn.Parameter(matrix.weight.detach().double().abs().sum(0)))
        for matrix in matrices
    ]
    columns = global_magnitude(sums, sparsity, floor=floor)
    return Mask(
        {
            matrix.name: columns.keep[matrix.name].expand(matrix.weight.shape) & (matrix.weight.detach() != 0)
            for matrix in matrices
        }
    )
