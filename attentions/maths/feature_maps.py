"""Feature maps that more than one mechanism uses."""

from __future__ import annotations

import torch
from torch import Tensor

SHORTEST = 1e-15
"""Shorter vectors have less and less of a direction. Their squares are still float32 numbers."""


def elu_plus_one(x: Tensor) -> Tensor:
    """elu(x) + 1, which is exp(x) below 0 and x + 1 above; exactly so, however negative x is."""
    # Not by clamp, whose gradient where x is the bound itself depends on torch's version.
    return x.masked_fill(x > 0, 0.0).exp() + x.relu()


def direction(x: Tensor) -> tuple[Tensor, Tensor]:
    """(x / ||x||, ||x||) over the last axis. Zero has direction zero, and finite gradients."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=SHORTEST)
    return x / norm, norm


def norm_aware_power(norm: Tensor, lam: float, tau: float) -> Tensor:
    """p(||q||) = lam (tau + tanh ||q||), between lam tau and lam (tau + 1). NaLaFormer, Eq. 8."""
    return lam * (tau + norm.tanh())


def sign_split(x: Tensor, magnitude: Tensor) -> Tensor:
    """[magnitude where x > 0; magnitude where x < 0], 2 D channels of which D are zero."""
    return torch.cat(
        (magnitude.masked_fill(x <= 0, 0.0), magnitude.masked_fill(x >= 0, 0.0)), dim=-1
    )


def focused(x: Tensor, factor: float, dims: tuple[int, ...]) -> Tensor:
    """f_p(x) = ||x|| / ||x^p|| x^p, as long as x but with a sharper direction; x > 0.

    Norms run over ``dims``. x^p is taken of x over its largest entry: f_p stays the same, since
    the factor cancels, and so does its gradient; but ||x^p|| cannot underflow.
    """
    powers = (x / x.detach().amax(dim=dims, keepdim=True)).pow(factor)
    return powers * (_norm(x, dims) / _norm(powers, dims))


def _norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=dims, keepdim=True)
    return norm
