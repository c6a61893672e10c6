"""NaLa: norm-aware linear attention in its released form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from .. import kernel
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_least, at_most, equal_lengths, fills_grid, positive
from ..maths.feature_maps import (
    direction,
    log2_size,
    norm_and_inverse,
    norm_aware_power,
    power_slope,
)
from ..maths.kernel_attention import kernel_flops
from ..maths.rotary import reference_rotate, rope_if_it_fits, turns
from ..precision import wide_dtype
from ..registry import register_attention

_GREATEST = 32.0
"""Of powers: 16 to it is the first power of two that float32 does not hold."""


Halves: TypeAlias = tuple[Tensor, Tensor]
Pull: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def check_powers(mechanism: str, lam: float, tau: float, key_power: float) -> None:
    """Refuse exponents below 1, or so large that entries of 1/16 and 16 leave float32."""
    lam, tau = positive(mechanism, "lam", lam), positive(mechanism, "tau", tau)
    because = "or gradients at zero are infinite"
    at_least(mechanism, "lam * tau (the least power)", lam * tau, 1, because=because)
    at_least(mechanism, "key_power", key_power, 1, because=because)
    because = "or features are no numbers of float32"
    greatest = lam * (tau + 1)
    at_most(mechanism, "lam * (tau + 1) (the greatest power)", greatest, _GREATEST, because=because)
    at_most(mechanism, "key_power", key_power, _GREATEST, because=because)


@register_attention(
    "nala",
    title="NaLa (norm-aware linear attention)",
    source="Meng et al., 2026, NaLaFormer, arXiv:2506.21137",
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Nala(Attention):
    """Linear attention that keeps the queries' norms and the signs of queries and keys.

        p(q)   = lam (tau + tanh ||q||)
        phi(q) = [relu(d)^p(q); relu(-d)^p(q)],  d = q / ||q||        (2 D features)
        phi(k) = [relu(k)^key_power; relu(-k)^key_power]
        out_i  = mean_j phi(q_i) . phi(k_j) v_j / (mean_j phi(q_i) . phi(k_j) + eps)

    With ``rope`` the features in the numerator are rotated by the token's place on the grid, those
    in the denominator are not: the weights may then be negative, and their sum is not 1.

    A query whose keys are all hidden gets zeros.

    Without ``rope`` any number of queries and keys will do; with it, both must be the area of the
    geometry's grid.

    Hazards:
        - A zero query has no direction: its features and its output are zero, and gradients are
          finite.
        - Where all keys are short, eps takes the output towards zero: at norms of 1e-6 it is 1e-14.
        - With ``rope`` it is no mean: weights may be negative and do not sum to 1, and constant
          values do not come back constant.
        - The power saturates: queries with norms well above 1 all have about lam (tau + 1), so with
          unit-variance channels the norms hardly matter.

    Differences:
        - This is the released form; the paper's first version is `nala_cosine`, whose cosine
          becomes this split of signs as its alpha grows.
        - A zero query gives NaN in the authors' code, and NaN gradients for all keys and values of
          the head; here it gives zeros.
        - The paper's first version names no lambda, no rotation and no eps; the released code has
          3, 2-D RoPE in the numerator, and 1e-6.

    Args:
        geometry: the shape to build for.
        rope: whether to rotate; head_dim must then be a multiple of 4.
        lam: scale of the queries' power.
        tau: its offset; lam * tau must be 1 or more, lam * (tau + 1) 32 or less.
        key_power: power of the keys, 1 to 32.
        eps: added to the mean weight.
    """

    def __init__(
        self,
        geometry: Geometry,
        rope: bool = False,
        lam: float = 3.0,
        tau: float = 0.5,
        key_power: float = 3.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        self.rope = rope_if_it_fits(self.name, rope, geometry.head_dim)
        check_powers(self.name, lam, tau, key_power)
        self.lam, self.tau, self.key_power = lam, tau, key_power
        self.eps = positive(self.name, "eps", eps)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        if self.rope:
            equal_lengths(self.name, q, k, "rope=True")
            fills_grid(self.name, q.shape[-2], self.geometry.grid)
        turn = None
        if self.rope:
            turn = turns(self.geometry.grid, q.shape[-1], wide_dtype(q.dtype), q.device)[None]
        return kernel.attend(
            q,
            k,
            v,
            queries=kernel.FeatureMap(self._query_features, by_hand=self._query_features_by_hand),
            keys=kernel.FeatureMap(self._key_features, by_hand=self._key_features_by_hand),
            eps=self.eps,
            mean=True,
            turn=turn,
            key_mask=key_mask,
        )

    def _query_features(self, q: Tensor) -> Halves:
        d, norm = direction(q)
        p = norm_aware_power(norm, self.lam, self.tau)
        return halves(d * (log2_size(d) * (p - 1)).exp2_())

    def _key_features(self, k: Tensor) -> Halves:
        return halves(k * power_slope(k, self.key_power))

    def _query_features_by_hand(self, q: Tensor) -> tuple[Halves, Pull]:
        """Through the direction, and through the power, which the norm sets."""
        norm, inverse = norm_and_inverse(q)
        d, saturation = q * inverse, norm.tanh()
        log = log2_size(d)
        p = self.lam * (self.tau + saturation)
        slope = (log * (p - 1)).exp2_()
        above, below = halves(d.mul_(slope))

        def pull(d_above: Tensor, d_below: Tensor) -> Tensor:
            share = (d_above * above).addcmul_(d_below, below)
            total = share.sum(dim=-1, keepdim=True)
            d_p = share.mul_(log).sum(dim=-1, keepdim=True).mul_(math.log(2))
            d_norm = d_p * self.lam * (1 - saturation.square()) - p * total * inverse
            d_signed = d_below.lerp_(d_above, above.sign())
            return d_signed.mul_(slope).mul_(p * inverse).addcmul_(q, d_norm * inverse)

        return (above, below), pull

    def _key_features_by_hand(self, k: Tensor) -> tuple[Halves, Pull]:
        slope = power_slope(k, self.key_power)
        above, below = halves(slope * k)

        def pull(d_above: Tensor, d_below: Tensor) -> Tensor:
            d_signed = d_below.lerp_(d_above, above.sign())
            return d_signed.mul_(slope).mul_(self.key_power)

        return (above, below), pull

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out, from rectified halves."""
        norm = q.pow(2).sum(dim=-1, keepdim=True).sqrt()
        p = self.lam * (self.tau + norm.tanh())  # Eq. 8
        d = q / norm
        phi_q = torch.cat((d.relu() ** p, (-d).relu() ** p), dim=-1)
        phi_k = torch.cat((k.relu() ** self.key_power, (-k).relu() ** self.key_power), dim=-1)
        weights = phi_q @ phi_k.transpose(-2, -1) / k.shape[-2]
        normaliser = weights.sum(dim=-1, keepdim=True) + self.eps
        if self.rope:
            phi_q, phi_k = (
                reference_rotate(phi, self.geometry.grid, q.shape[-1]) for phi in (phi_q, phi_k)
            )
            weights = phi_q @ phi_k.transpose(-2, -1) / k.shape[-2]
        return weights @ v / normaliser

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with 2 D features."""
        return kernel_flops(shape, 2 * shape.head_dim)


def halves(signed: Tensor) -> Halves:
    """Positive and negative entries. The latter keep their sign on both sides, which cancels."""
    return signed.clamp(min=0.0), signed.clamp(max=0.0)
