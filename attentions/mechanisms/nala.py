"""NaLa: norm-aware linear attention in its released form."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import at_least, at_most, equal_lengths, fills_grid, positive
from ..engines.kernel import KernelCore
from ..maths.feature_maps import direction, signed_power, split_signs
from ..maths.rotary import reference_rotate, rope_if_it_fits, turns
from ..precision import wide_dtype
from ..registry import register_attention

_GREATEST = 32.0
"""Largest exponent: 16**32 overflows float32."""

Halves: TypeAlias = tuple[Tensor, Tensor]


def check_powers(mechanism: str, lam: float, tau: float, key_power: float) -> None:
    """Refuse exponents below 1, or so large that entries of 1/16 and 16 leave float32."""
    lam, tau = positive(mechanism, "lam", lam), positive(mechanism, "tau", tau)
    because = "or gradients at zero are infinite"
    at_least(mechanism, "lam * tau (the least power)", lam * tau, 1, because=because)
    at_least(mechanism, "key_power", key_power, 1, because=because)
    because = "or features are not finite in float32"
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
class Nala(KernelCore):
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
        - With ``rope`` it is not a mean: weights may be negative and do not sum to 1, and constant
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

    eps_on_mean = True

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
        self.feature_dim = 2 * geometry.head_dim

    def phi_q(self, q: Tensor) -> Halves:
        """The direction to a power that the norm sets, Eq. 8, by sign."""
        # Tiles run the faster form in kernel/derivatives.py; change both.
        d, norm = direction(q)
        return split_signs(signed_power(d, self.lam * (self.tau + norm.tanh())))

    def phi_k(self, k: Tensor) -> Halves:
        """The key to a fixed power, by sign."""
        # Tiles run the faster form in kernel/derivatives.py; change both.
        return split_signs(signed_power(k, self.key_power))

    def turn(self, q: Tensor, k: Tensor) -> Tensor | None:
        """Each token's place on the grid."""
        if not self.rope:
            return None
        equal_lengths(self.name, q, k, "rope=True")
        fills_grid(self.name, q.shape[-2], self.geometry.grid)
        return turns(self.geometry.grid, q.shape[-1], wide_dtype(q.dtype), q.device)[None]

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
