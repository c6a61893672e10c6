"""Kernel attention: the weight of a pair is phi(q) . phi(k), so keys and values can meet first.

    out_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + eps)

is (Q' (K'^T V)) / (Q' K'^T 1 + eps), in O(N F E) for F features. An epsilon on the mean over keys,
as FLatten and NaLa have it, is M times this one.
"""

from __future__ import annotations

from torch import Tensor

from ..geometry import CallShape


def divide(numerator: Tensor, normaliser: Tensor) -> Tensor:
    """The quotient; zero where all weights are zero, as for a query whose keys are all hidden."""
    return numerator / normaliser.masked_fill(normaliser == 0, 1.0)


def kernel_flops(shape: CallShape, num_features: int, *, divides: bool = True) -> int:
    """K'^T V, Q' times it, and the normaliser; as many for the recurrence, token by token."""
    meet = 2 * num_features * shape.value_dim * (shape.num_keys + shape.num_tokens)
    return meet + (2 * num_features * shape.num_tokens if divides else 0)
