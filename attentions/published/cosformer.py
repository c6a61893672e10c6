"""cosFormer as its authors' code computes it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..mechanisms.cosformer import Cosformer
from ..registry import register_attention
from .entry import PublishedCore


@register_attention(
    "cosformer_published",
    title="cosFormer, published operators",
    source="OpenNLPLab/cosFormer, cosformer.py, commit 8e12da11",
    family="published",
    capabilities=Capabilities(
        cross=True, position_free=False, memory_layout="bnhd", dtypes=("float32", "float64")
    ),
)
class CosformerPublished(PublishedCore):
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
        geometry: the shape to build for.
        eps: the least sum of weights.
    """

    ours: Cosformer

    def __init__(self, geometry: Geometry, eps: float = 1e-6) -> None:
        super().__init__(geometry)
        self.ours = Cosformer(geometry, eps=eps)
        self.eps = eps

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
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
        z = 1 / torch.einsum("nld,nd->nl", phi_q, phi_k.sum(dim=1)).clamp_min(self.eps)
        out = torch.einsum("nld,ndm,nl->nlm", phi_q, context, z)
        return torch.unflatten(out, 0, sizes)
