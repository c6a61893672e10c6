"""PolaFormer: like and unlike signs of queries and keys are kept apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_most, positive
from ..engines.kernel import KernelCore, Parts
from ..maths.feature_maps import signed_power, split_signs
from ..precision import widen
from ..registry import register_attention
from .nala import Halves

_GREATEST_ALPHA = 31.0
"""Largest alpha: 16**32 overflows float32."""


@register_attention(
    "polaformer",
    title="PolaFormer (polarity-aware linear attention)",
    source="Meng et al., 2025, arXiv:2501.15061",
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Polaformer(KernelCore):
    """Linear attention in which half of v follows like signs, and half unlike signs.

        x+     = relu(x / softplus(scale))^p,  x- = relu(-x / softplus(scale))^p
        p      = 1 + alpha sigmoid(power)
        same   = q+ . k+ + q- . k-
        unlike = q+ . k- + q- . k+
        out_i  = [mean_j same_ij v1_j / (mean_j same_ij + eps);
                  mean_j unlike_ij v2_j / (mean_j unlike_ij + eps)]

    where v1 and v2 are the first and second half of v's channels. ``scale``, one value per channel,
    and ``power``, one per channel of a head, are learned; p starts at 1 + alpha / 2. The paper's
    two gates G^s and G^o multiply the halves: they are a function of the layer's input, see
    `PolaformerLayer`.

    A query whose keys are all hidden gets zeros.

    Hazards:
        - A zero query or key has no features. Where all products are far below ``eps`` (norms of
          1e-6) the output goes to zero.
        - Half of the values is mixed by unlike signs alone: where signs all agree, that half of the
          output is zero.
        - Powers of large entries overflow: of some 1e4 for a power of 5.

    Differences:
        - The paper has two gates on the halves, the authors' code one linear gate on both, which
          says the same: see `polaformer_layer`.
        - The learned ``scale`` is in the authors' code and not in the paper.

    Args:
        geometry: the shape to build for.
        alpha: p lies between 1 and 1 + alpha; alpha is 31 at most.
        eps: added to the mean weights.
    """

    eps_on_mean = True

    def __init__(
        self,
        geometry: Geometry,
        alpha: float = 4,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        because = "or features are not finite in float32"
        self.alpha = at_most(
            self.name,
            "alpha",
            positive(self.name, "alpha", alpha),
            _GREATEST_ALPHA,
            because=because,
        )
        self.eps = positive(self.name, "eps", eps)
        self.feature_dim = 2 * geometry.head_dim
        self.scale = nn.Parameter(torch.zeros(geometry.embed_dim))
        self.power = nn.Parameter(torch.zeros(geometry.num_heads, geometry.head_dim))

    def weights(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """P and softplus(scale), (H, 1, D) each."""
        power = 1 + self.alpha * widen(self.power).to(dtype).sigmoid()[:, None]
        return power, functional.softplus(widen(self.scale).to(dtype)).view(power.shape)

    def phi_q(self, q: Tensor, power: Tensor, scale: Tensor) -> Halves:
        """Scaled powers by sign: x+ and -x-; the same for keys."""
        # Tiles run the faster form in kernel/derivatives.py; change both.
        return split_signs(signed_power(q / scale, power))

    def combine(self, contexts: Parts, key_sums: Parts) -> tuple[Parts, Parts]:
        """For one half of the values sums of the own sign, for the other those of the other sign.

        The features of negative entries are below zero: where they meet those of positive ones,
        the product's sign is turned back.
        """
        plus_sum, minus_sum = key_sums
        (plus_1, plus_2), (minus_1, minus_2) = (x.tensor_split(2, dim=-1) for x in contexts)
        read = torch.cat((plus_1, -minus_2), dim=-1), torch.cat((minus_1, -plus_2), dim=-1)
        sums = torch.cat((plus_sum, -minus_sum), dim=-1), torch.cat((minus_sum, -plus_sum), dim=-1)
        return read, sums

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Both N x M matrices of weights written out."""
        heads = q.shape[1]
        scale = (1 + self.scale.to(q.dtype).exp()).log().reshape(heads, 1, -1)
        power = 1 + self.alpha / (1 + (-self.power.to(q.dtype)[:, None]).exp())
        q_plus, q_minus = ((sign * q / scale).clamp(min=0) ** power for sign in (1, -1))
        k_plus, k_minus = ((sign * k / scale).clamp(min=0) ** power for sign in (1, -1))
        same = q_plus @ k_plus.mT + q_minus @ k_minus.mT
        unlike = q_plus @ k_minus.mT + q_minus @ k_plus.mT
        out = []
        for weights, values in zip((same, unlike), v.tensor_split(2, dim=-1), strict=True):
            share = weights / k.shape[-2]
            out.append(share @ values / (share.sum(dim=-1, keepdim=True) + self.eps))
        return torch.cat(out, dim=-1)

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with 2 D features, and a second normaliser."""
        return super().flops(shape) + 2 * self.feature_dim * shape.num_tokens
