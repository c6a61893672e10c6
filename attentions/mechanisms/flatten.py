"""FLatten: focused linear attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import kernel
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_least, one_of, positive
from ..maths.heads import merge_heads, split_heads
from ..maths.kernel_attention import kernel_flops
from ..precision import wide_dtype, widen
from ..registry import register_attention

Pull: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]

_LARGEST = 2.0**30
"""Squares of powers that large can be summed in float32, and those of entries of eps are not yet
subnormal, which would be slow."""


@dataclass(frozen=True)
class FocusedKernel:
    """Attention with phi(x) = f_p((relu(x) + eps) / softplus(scale)); `Flatten` says the rest."""

    mechanism: str
    factor: float
    norm_over: str
    eps: float

    def __post_init__(self) -> None:
        # As floats: torch takes no whole number beyond 2^63.
        factor = at_least(self.mechanism, "focusing_factor", self.factor, 1)
        object.__setattr__(self, "factor", factor)
        one_of(self.mechanism, "norm_over", self.norm_over, ("all_heads", "head"))
        object.__setattr__(self, "eps", positive(self.mechanism, "eps", self.eps))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, scale: Tensor, key_mask: Tensor | None = None
    ) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E), (H * D,) -> (B, H, N, E)."""
        wide = widen(scale).to(wide_dtype(q.dtype))
        inverse = functional.softplus(wide).reciprocal().view(q.shape[1], 1, -1)  # (H, 1, D)
        features = kernel.FeatureMap(self._features, by_hand=self._features_by_hand)
        return kernel.attend(
            q,
            k,
            v,
            inverse,
            queries=features,
            keys=features,
            eps=self.eps,
            mean=True,
            joint_heads=self.norm_over == "all_heads",
            key_mask=key_mask,
        )

    def _features(self, x: Tensor, inverse: Tensor) -> Tensor:
        u, unit = self._in_range(x, inverse)
        powers = u.pow(self.factor)
        return powers * (unit * (self._squares(u) / self._squares(powers)).sqrt())

    def _in_range(self, x: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """(relu(x) + eps) / softplus(scale), in a unit that makes the largest power `_LARGEST`.

        The unit is set by the largest entry of a head or of all heads. It cancels, so no gradient
        goes to it.
        """
        y = x.clamp(min=0.0).add_(self.eps).mul_(inverse)
        peak = y.detach().amax(dim=-1, keepdim=True)
        if self.norm_over == "all_heads":
            peak = peak.amax(dim=-3, keepdim=True)
        unit = peak / _LARGEST ** (1 / self.factor)
        return y.mul_(unit.reciprocal()), unit

    def _squares(self, x: Tensor) -> Tensor:
        """Their sum over the channels of a head or of all heads."""
        squares: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square()
        return self._over_heads(squares)

    def _over_heads(self, total: Tensor) -> Tensor:
        return total.sum(dim=-3, keepdim=True) if self.norm_over == "all_heads" else total

    def _features_by_hand(self, x: Tensor, inverse: Tensor) -> tuple[Tensor, Pull]:
        """With phi = c u^p, where c = unit ||u|| / ||u^p||."""
        u, unit = self._in_range(x, inverse)
        slope = u.pow(self.factor - 1)
        powers = slope * u
        squares, squares_of_powers = self._squares(u), self._squares(powers)
        c = unit * (squares / squares_of_powers).sqrt()
        phi = powers.mul_(c)

        def pull(d_phi: Tensor) -> tuple[Tensor, Tensor]:
            along = self._over_heads((d_phi * phi).sum(dim=-1, keepdim=True))
            share = along * (-self.factor / (c * squares_of_powers))
            d_u = d_phi.mul_(c * self.factor).addcmul_(phi, share).mul_(slope)
            d_u.addcmul_(u, along / squares)
            d_inverse = (d_u * u).sum(dim=(0, 2))[:, None] / inverse
            is_above = x.clamp(min=0.0).sign_()  # comparisons are slow
            return d_u.mul_(inverse).mul_(is_above.div_(unit)), d_inverse

        return phi, pull

    def reference(self, q: Tensor, k: Tensor, v: Tensor, scale: Tensor) -> Tensor:
        """The N x M weights written out, with the features of all heads side by side."""
        phi_q, phi_k = (self._reference_features(x, scale) for x in (q, k))
        share = phi_q @ phi_k.transpose(-2, -1) / k.shape[-2]
        return share @ v / (share.sum(dim=-1, keepdim=True) + self.eps)

    def _reference_features(self, x: Tensor, scale: Tensor) -> Tensor:
        num_heads = x.shape[1]
        tokens = (merge_heads(x).clamp(min=0) + self.eps) / (1 + scale.exp()).log()  # (B, N, C)
        if self.norm_over == "head":
            tokens = torch.unflatten(tokens, -1, (num_heads, -1))
        sharp = tokens**self.factor
        length, sharp_length = (t.pow(2).sum(-1, keepdim=True).sqrt() for t in (tokens, sharp))
        phi = sharp / sharp_length * length
        return split_heads(phi.reshape(*merge_heads(x).shape), num_heads)


@register_attention(
    "flatten",
    title="FLatten (focused linear attention)",
    source="Han et al., 2023, arXiv:2308.00442",
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        heads_independent=False,
        exports=frozenset({"bidirectional"}),
    ),
)
class Flatten(Attention):
    """Linear attention whose features point more sharply: f_p(x) = ||x|| x^p / ||x^p||.

        phi(x) = f_p((relu(x) + eps) / softplus(scale))
        out_i = mean_j phi(q_i) . phi(k_j) v_j / (mean_j phi(q_i) . phi(k_j) + eps)

    ``scale``, one value per channel, is learned. It and the eps inside phi are the authors' code's;
    the paper has f_p(relu(x)). A query whose keys are all hidden gets zeros.

    Hazards:
        - A zero or negative row is a row of eps and stays finite; where all queries or all keys are
          so, the eps in the denominator takes the output towards zero.
        - With ``norm_over="all_heads"`` what a head attends to depends on the sizes of the other
          heads' channels.
        - Powers of small entries vanish in half precision, so features are formed in float32.

    Differences:
        - The paper's norms run over the channels of a head, those of the authors' code over the
          channels of all heads: ``norm_over``, the code's by default.
        - The authors' code divides by a learned softplus(scale) and floors entries by eps; neither
          is in the paper. Both are here.

    Args:
        geometry: the shape to build for.
        focusing_factor: p.
        norm_over: what ||.|| runs over: ``"all_heads"``, all H * D channels of a token, as in the
            authors' code, where one head's features depend on the others' magnitudes; or
            ``"head"``, the D channels of one head, as the paper reads.
        eps: the floor of phi's input, and added to the mean weight.
    """

    def __init__(
        self,
        geometry: Geometry,
        focusing_factor: float = 3,
        norm_over: str = "all_heads",
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        self.kernel = FocusedKernel(self.name, focusing_factor, norm_over, eps)
        self.scale = nn.Parameter(torch.zeros(geometry.embed_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        return self.kernel.attend(q, k, v, self.scale, key_mask)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out."""
        return self.kernel.reference(q, k, v, self.scale.to(q.dtype))

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with D features."""
        return kernel_flops(shape, shape.head_dim)
