"""PolaFormer: like and unlike signs of queries and keys are kept apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import kernel
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_most, positive
from ..maths.feature_maps import log2_size
from ..maths.kernel_attention import kernel_flops
from ..precision import wide_dtype, widen
from ..registry import register_attention
from .nala import Halves, halves

Pull: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
_GREATEST_ALPHA = 31.0
"""16 to the power of 32 is the first power of two that float32 does not hold."""


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
class Polaformer(Attention):
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

    def __init__(
        self,
        geometry: Geometry,
        alpha: float = 4,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        because = "or features are no numbers of float32"
        self.alpha = at_most(
            self.name,
            "alpha",
            positive(self.name, "alpha", alpha),
            _GREATEST_ALPHA,
            because=because,
        )
        self.eps = positive(self.name, "eps", eps)
        self.scale = nn.Parameter(torch.zeros(geometry.embed_dim))
        self.power = nn.Parameter(torch.zeros(geometry.num_heads, geometry.head_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        dtype = wide_dtype(q.dtype)
        power = 1 + self.alpha * widen(self.power).to(dtype).sigmoid()[:, None]  # (H, 1, D)
        scale = functional.softplus(widen(self.scale).to(dtype)).view(power.shape)
        first = -(-v.shape[-1] // 2)  # columns that follow like signs
        features = kernel.FeatureMap(_powers, by_hand=_powers_by_hand)
        return kernel.attend(
            q,
            k,
            v,
            power,
            -power * scale.log2(),
            queries=features,
            keys=features,
            eps=self.eps,
            mean=True,
            gather=_like_and_unlike,
            columns=(first, v.shape[-1] - first),
            key_mask=key_mask,
        )

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
        features = 2 * shape.head_dim
        return kernel_flops(shape, features) + 2 * features * shape.num_tokens


def _powers(x: Tensor, power: Tensor, c: Tensor) -> Halves:
    """sign(x) |x|^p 2^c by sign; a scale before the power is in c."""
    return halves(x * torch.addcmul(c, log2_size(x), power - 1).exp2_())


def _powers_by_hand(x: Tensor, power: Tensor, c: Tensor) -> tuple[Halves, Pull]:
    log = log2_size(x)
    slope = torch.addcmul(c, log, power - 1).exp2_()
    above, below = halves(slope * x)

    def pull(d_above: Tensor, d_below: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        share = (d_above * above).addcmul_(d_below, below)
        d_c = share.sum(dim=(0, 2))[:, None] * math.log(2)
        d_power = share.mul_(log).sum(dim=(0, 2))[:, None] * math.log(2)
        d_signed = d_below.lerp_(d_above, above.sign())
        return d_signed.mul_(slope).mul_(power), d_power, d_c

    return (above, below), pull


def _like_and_unlike(
    contexts: kernel.Parts, key_sums: kernel.Parts
) -> tuple[kernel.Parts, kernel.Parts]:
    """Half of the columns from sums of the same sign, the others from those of the other sign.

    The negative half of the features is below zero: where it meets the positive half of the other
    side, the product's sign is turned back.
    """
    plus, minus = contexts
    first = -(-plus.shape[-1] // 2)
    read = (
        torch.cat((plus[..., :first], -minus[..., first:]), dim=-1),
        torch.cat((minus[..., :first], -plus[..., first:]), dim=-1),
    )
    plus_sum, minus_sum = key_sums
    sums = torch.cat((plus_sum, -minus_sum), dim=-1), torch.cat((minus_sum, -plus_sum), dim=-1)
    return read, sums
