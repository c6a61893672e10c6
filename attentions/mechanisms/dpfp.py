"""Deterministic parameter-free projection: features are products of rectified channels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import positive, whole
from ..engines.kernel import KernelCore
from ..registry import register_attention


@register_attention(
    "dpfp",
    title="DPFP",
    source="Schlag et al., 2021, arXiv:2102.11174",
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Dpfp(KernelCore):
    """Linear attention whose features are orthogonal for many more keys than there are channels.

        r(x) = [relu(x); relu(-x)]                                                   (2 D)
        phi(x)_{i + 2 D (s - 1)} = r_i r_{i - s},  s = 1 .. nu                   (2 D nu features)
        out_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + eps)

    with indices that wrap around. r has D zeros at least, so most products are zero: a query and a
    key may have no feature in common, and where a query shares none with any key it gets zeros.

    A query whose keys are all hidden gets zeros.

    Hazards:
        - A query that shares no feature with any key gets zeros, and so does one whose entries are
          all zero.

    Differences:
        - flash-linear-attention has -relu(x) for relu(-x), so that products are negative or cancel;
          ours is the paper's.

    Args:
        geometry: the shape to build for.
        nu: how many neighbours a channel is multiplied with. Below 2 D, where they would repeat.
        eps: added to the sum of weights.
    """

    def __init__(self, geometry: Geometry, nu: int = 1, eps: float = 1e-6) -> None:
        super().__init__(geometry)
        self.nu = whole(self.name, "nu", nu, 1)
        if nu >= 2 * geometry.head_dim:
            raise ValueError(
                f"{self.name}: nu is {nu}; a number below 2 head_dim, {2 * geometry.head_dim}, is "
                "needed."
            )
        self.eps = positive(self.name, "eps", eps)
        self.feature_dim = 2 * geometry.head_dim * nu

    def phi_q(self, q: Tensor) -> tuple[Tensor, ...]:
        """R times r shifted by s, a part for each s; and the same for keys."""
        r = torch.cat((q.relu(), (-q).relu()), dim=-1)
        return tuple(r * r.roll(shift, dims=-1) for shift in range(1, self.nu + 1))

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights as a sum over pairs of channels."""
        r_q, r_k = (torch.cat((x.clamp(min=0), -x.clamp(max=0)), dim=-1) for x in (q, k))
        weights = q.new_zeros(*q.shape[:3], k.shape[2])
        for i in range(2 * q.shape[-1]):
            for shift in range(1, self.nu + 1):
                phi_q, phi_k = (r[..., i] * r[..., i - shift] for r in (r_q, r_k))
                weights = weights + phi_q[..., :, None] * phi_k[..., None, :]
        if self.geometry.causal:
            weights = weights.tril()
        return weights @ v / (weights.sum(dim=-1, keepdim=True) + self.eps)
