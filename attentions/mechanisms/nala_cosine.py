"""NaLa with cosine inhibition: the paper's first version of norm-aware linear attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import kernel
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import positive
from ..maths.feature_maps import (
    direction,
    log2_size,
    norm_and_inverse,
    norm_aware_power,
    power_slope,
)
from ..maths.kernel_attention import kernel_flops
from ..registry import register_attention
from .nala import Halves, Pull, check_powers


@register_attention(
    "nala_cosine",
    title="NaLa (cosine inhibition)",
    source="Meng et al., 2025, NaLaFormer, arXiv:2506.21137v1",
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class NalaCosine(Attention):
    """Norm-aware linear attention in which entries of unlike sign count less, by a cosine.

        theta(x) = pi / 4 tanh(alpha d(x)),  d(x) = x / ||x||
        phi(q)   = |d(q)|^p(q) [cos theta(q); sin theta(q)],  p(q) = lam (tau + tanh ||q||)
        phi(k)   = |k|^key_power [cos theta(k); sin theta(k)]                          (Eq. 16)
        out_i    = mean_j phi(q_i) . phi(k_j) v_j / (mean_j phi(q_i) . phi(k_j) + eps)

    so a channel's weight is |d(q)|^p |k|^key_power cos(theta(q) - theta(k)), never negative.

    ``alpha=1`` is the paper's text. The default is the authors' code's 20, because with 1 there is
    hardly any inhibition: |d| is about 1 / sqrt(D), so at D = 64 the angles differ by some 0.2 and
    the cosine stays above 0.98. As alpha grows the mechanism becomes `nala` without rope.

    A query whose keys are all hidden gets zeros.

    Hazards:
        - A zero query has no direction: its features and its output are zero. A zero key has no
          weight. Both leave all gradients finite.
        - Where all keys are short, eps takes the output towards zero.
        - The power saturates, as that of `nala`.

    Differences:
        - The paper's angle has alpha 1, the authors' code 20: ``alpha``, the code's by default,
          because 1 hardly inhibits anything at usual head sizes.
        - One zero query or key gives NaN in the authors' code, a key in the whole head; here it
          gives zeros.
        - The paper gives no value for lambda; 3 is the code's.

    Args:
        geometry: the shape to build for.
        alpha: how fast the angle saturates.
        lam: scale of the queries' power.
        tau: its offset; lam * tau must be 1 or more.
        key_power: power of the keys, 1 or more.
        eps: added to the mean weight.
    """

    def __init__(
        self,
        geometry: Geometry,
        alpha: float = 20.0,
        lam: float = 3.0,
        tau: float = 0.5,
        key_power: float = 3.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        self.alpha = positive(self.name, "alpha", alpha)
        check_powers(self.name, lam, tau, key_power)
        self.lam, self.tau, self.key_power = lam, tau, key_power
        self.eps = positive(self.name, "eps", eps)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        return kernel.attend(
            q,
            k,
            v,
            queries=kernel.FeatureMap(self._query_features, by_hand=self._query_features_by_hand),
            keys=kernel.FeatureMap(self._key_features, by_hand=self._key_features_by_hand),
            eps=self.eps,
            mean=True,
            key_mask=key_mask,
        )

    def _query_features(self, q: Tensor) -> Halves:
        d, norm = direction(q)
        p = norm_aware_power(norm, self.lam, self.tau)
        return self._inhibited((d * log2_size(d).mul_(p - 1).exp2_()).abs_(), d)

    def _key_features(self, k: Tensor) -> Halves:
        return self._inhibited((k * power_slope(k, self.key_power)).abs_(), direction(k)[0])

    def _inhibited(self, size: Tensor, d: Tensor) -> Halves:
        cos, sin = self._cos_and_sin(self._gate(d))
        return size * cos, size * sin

    def _gate(self, d: Tensor) -> Tensor:
        """(1 + tanh(alpha d)) / 2: torch's sigmoid is much faster than its tanh."""
        return (d * (2 * self.alpha)).sigmoid_()

    @staticmethod
    def _cos_and_sin(gate: Tensor) -> Halves:
        """Of theta, whose cosine is never below sqrt(1/2)."""
        sin = (gate * (math.pi / 2)).sub_(math.pi / 4).sin_()
        return (1 - sin * sin).sqrt_(), sin

    def _query_features_by_hand(self, q: Tensor) -> tuple[Halves, Pull]:
        """Through the angle, and through the size, whose power the norm sets."""
        norm, inverse = norm_and_inverse(q)
        d, saturation = q * inverse, norm.tanh()
        p, log = self.lam * (self.tau + saturation), log2_size(d)
        slope, gate = (log * (p - 1)).exp2_(), self._gate(d)
        cos, sin = self._cos_and_sin(gate)
        size = (slope * d).abs_()
        parts = size * cos, size.mul_(sin)

        def pull(d_cos: Tensor, d_sin: Tensor) -> Tensor:
            share = (d_cos * parts[0]).addcmul_(d_sin, parts[1])  # the size times its gradient
            d_d = (d_cos * cos).addcmul_(d_sin, sin).mul_(slope).mul_(p).mul_(d.sign())
            d_d.add_(self._through_gate(d_cos, d_sin, parts, gate))
            d_p = share.mul_(log).sum(dim=-1, keepdim=True).mul_(math.log(2))
            along = (d_d * d).sum(dim=-1, keepdim=True).mul_(inverse)
            d_norm = d_p * self.lam * (1 - saturation.square()) - along
            return d_d.mul_(inverse).addcmul_(q, d_norm * inverse)

        return parts, pull

    def _key_features_by_hand(self, k: Tensor) -> tuple[Halves, Pull]:
        _, inverse = norm_and_inverse(k)
        d, slope = k * inverse, power_slope(k, self.key_power)
        gate = self._gate(d)
        cos, sin = self._cos_and_sin(gate)
        size = (slope * k).abs_()
        parts = size * cos, size.mul_(sin)

        def pull(d_cos: Tensor, d_sin: Tensor) -> Tensor:
            by_size = (d_cos * cos).addcmul_(d_sin, sin).mul_(slope).mul_(k.sign())
            d_d = self._through_gate(d_cos, d_sin, parts, gate)
            along = (d_d * d).sum(dim=-1, keepdim=True)
            d_d.sub_(d.mul_(along)).mul_(inverse)
            return d_d.add_(by_size, alpha=self.key_power)

        return parts, pull

    def _through_gate(self, d_cos: Tensor, d_sin: Tensor, parts: Halves, gate: Tensor) -> Tensor:
        """The gradient of d by its angle; written over ``d_sin``."""
        d_theta = d_sin.mul_(parts[0]).addcmul_(d_cos, parts[1], value=-1)
        return d_theta.mul_(gate).mul_((1 - gate).mul_(math.pi * self.alpha))

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights of Eq. 16 written out, from the cosines' and the sines' parts."""
        (d_q, norm_q), (d_k, _) = ((x / self._length(x), self._length(x)) for x in (q, k))
        size_q = d_q.abs() ** (self.lam * (self.tau + norm_q.tanh()))
        size_k = k.abs() ** self.key_power
        angle_q, angle_k = (torch.tanh(d * self.alpha) * math.pi / 4 for d in (d_q, d_k))
        cosines = (size_q * angle_q.cos()) @ (size_k * angle_k.cos()).transpose(-2, -1)
        sines = (size_q * angle_q.sin()) @ (size_k * angle_k.sin()).transpose(-2, -1)
        share = (cosines + sines) / k.shape[-2]
        return share @ v / (share.sum(dim=-1, keepdim=True) + self.eps)

    @staticmethod
    def _length(x: Tensor) -> Tensor:
        return x.pow(2).sum(dim=-1, keepdim=True).sqrt()

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with 2 D features."""
        return kernel_flops(shape, 2 * shape.head_dim)
