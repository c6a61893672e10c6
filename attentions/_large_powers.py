"""Kernel attention to powers that are no numbers: PolaFormer's features, from their exponents.

A power of 1e6 to the fifth times another is 1e60, beyond float32, though the quotient that it
stands in is an ordinary number. Here features stay logarithms until the largest has been taken off,

    a_id = p_d log2 |q_id|,  b_jd = p_d log2 |k_jd|,  m_d = max_j b_jd,  t_i = max_d (a_id + m_d)
    weight of a pair = 2^t_i sum_d 2^(a_id + m_d - t_i) 2^(b_jd - m_d)

where 2^t_i cancels but for eps, every factor is at most 1, and at least one weight of a query is
not small. It costs more than powers, and a logarithm of hundreds keeps fewer digits: this form is
for what the others cannot do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_NOTHING = -1e5
"""The exponent of zero; no power of a float comes near it."""
_MOST = 126.0
"""A larger power of two times eps would be no number of float32."""


def exponents(x: Tensor, power: Tensor, scale: Tensor) -> Tensor:
    """log2 of |x / scale|^power, positive entries and then negative ones: (..., D) -> (..., 2 D).

    Args:
        x: (B, H, N, D), in float32 or wider.
        power: broadcasts to x.
        scale: broadcasts to x, above zero.
    """
    size = x.abs().clamp(min=torch.finfo(x.dtype).tiny)
    found = power * (size.log2() - scale.log2())
    parts = found.masked_fill(x <= 0, _NOTHING), found.masked_fill(x >= 0, _NOTHING)
    return torch.cat(parts, dim=-1)


def attention_of_exponents(
    a: Tensor, b: Tensor, v: Tensor, eps: float, num_keys: int | Tensor
) -> Tensor:
    """(B, H, N, F), (B, H, M, F), (B, H, M, E) -> (B, H, N, E), a mean of v.

    Args:
        a: exponents of the queries' features.
        b: those of the keys'; `hidden` for keys that are not seen.
        v: values.
        eps: added to the mean weight.
        num_keys: over which the mean is taken; broadcasts to (B, H, N, 1).
    """
    # Neither m nor t has a gradient: what comes out does not depend on them.
    peak = b.detach().amax(dim=-2, keepdim=True)  # m, (B, H, 1, F)
    phi_k = _power_of_two(b, peak) / num_keys
    raised = a + peak
    # The number of features is taken off too: a sum over them is then 1 at most.
    top = raised.detach().amax(dim=-1, keepdim=True) + math.log2(a.shape[-1])
    phi_q = _power_of_two(a, top - peak)
    total = phi_q @ phi_k.sum(dim=-2).unsqueeze(-1)
    return phi_q @ (phi_k.mT @ v) / (total + eps * (-top).clamp(max=_MOST).exp2())


def hidden(b: Tensor, key_mask: Tensor | None) -> Tensor:
    """The exponents of keys, (B, H, M, F), nothing where a mask of (B, M) says False."""
    return b if key_mask is None else b.masked_fill(~key_mask[:, None, :, None], _NOTHING)


def _power_of_two(exponent: Tensor, less: Tensor) -> Tensor:
    """2^(exponent - less), and zero for `_NOTHING`, whatever is taken off."""
    return (exponent - less).exp2().masked_fill(exponent == _NOTHING, 0.0)
