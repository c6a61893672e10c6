"""Linear attention with elu + 1 features as fast-transformers computes it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..mechanisms.linear import Linear
from .entry import published


@published(
    "linear",
    title="Linear attention (elu + 1), published operators",
    source="idiap/fast-transformers, linear_attention.py, commit 2ad36b97",
    memory_layout="bnhd",
)
def linear_published(ours: Linear, q: Tensor, k: Tensor, v: Tensor, *, eps: float) -> Tensor:
    """`linear` by its authors' operators: einsum on (B, N, H, D) throughout.

        phi(x) = elu(x) + 1
        out_i  = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + eps)

    Hazards:
        - The sum of weights is not a mean: it passes float16's largest number at about 700 tokens.

    Differences:
        - `linear` computes half inputs in float32, and has causal and recurrent forms; the authors'
          causal product is compiled C++.

    Args:
        eps: added to the sum of weights.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    phi_q, phi_k = functional.elu(q) + 1, functional.elu(k) + 1
    context = torch.einsum("nshd,nshm->nhmd", phi_k, v)
    z = 1 / (torch.einsum("nlhd,nhd->nlh", phi_q, phi_k.sum(dim=1)) + eps)
    return torch.einsum("nlhd,nhmd,nlh->nlhm", phi_q, context, z).transpose(1, 2)
