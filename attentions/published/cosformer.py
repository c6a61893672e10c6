"""cosFormer as its authors' code computes it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..mechanisms.cosformer import Cosformer
from .entry import published


@published(
    "cosformer",
    title="cosFormer, published operators",
    source="OpenNLPLab/cosFormer, cosformer.py, commit 8e12da11",
    lacks=("horizon",),
    memory_layout="bnhd",
)
def cosformer_published(ours: Cosformer, q: Tensor, k: Tensor, v: Tensor, *, eps: float) -> Tensor:
    """`cosformer` by its authors' operators: 2 D features, and a table of angles at each call.

        w_ij  = relu(q_i) . relu(k_j) cos(pi / 2 (i - j) / m)
        out_i = sum_j w_ij v_j / max(sum_j w_ij, eps)

    with m the longer of queries and keys. Over there the table is float32; here it is as precise
    as q.

    Hazards:
        - 1 / ``eps`` overflows float16: a query whose weights are all zero is NaN there.

    Differences:
        - `cosformer` computes half inputs in float32, keeps its table, and has causal and recurrent
          forms; the authors' causal form keeps D x E sums for every token.

    Args:
        eps: the least sum of weights.
    """
    sizes = q.shape[:2]
    q, k, v = q.flatten(0, 1).relu(), k.flatten(0, 1).relu(), v.flatten(0, 1)
    num_queries, num_keys = q.shape[1], k.shape[1]
    longest = max(num_queries, num_keys)
    place = torch.arange(1, longest + 1, device=q.device).to(q).reshape(1, -1, 1)
    angle = math.pi / 2 * place
    of_queries, of_keys = angle[:, :num_queries] / longest, angle[:, :num_keys] / longest
    phi_q = torch.cat((q * of_queries.sin(), q * of_queries.cos()), dim=-1)
    phi_k = torch.cat((k * of_keys.sin(), k * of_keys.cos()), dim=-1)
    context = torch.einsum("nld,nlm->ndm", phi_k, v)
    z = 1 / torch.einsum("nld,nd->nl", phi_q, phi_k.sum(dim=1)).clamp_min(eps)
    out = torch.einsum("nld,ndm,nl->nlm", phi_q, context, z)
    return torch.unflatten(out, 0, sizes)
