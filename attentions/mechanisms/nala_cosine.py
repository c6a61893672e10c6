"""NaLa with cosine inhibition: the paper's first version of norm-aware linear attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import positive
from ..engines.kernel import KernelCore
from ..maths.feature_maps import direction, signed_power
from ..registry import register_attention
from .nala import Halves, check_powers


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
class NalaCosine(KernelCore):
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

    eps_on_mean = True

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
        self.feature_dim = 2 * geometry.head_dim

    def phi_q(self, q: Tensor) -> Halves:
        """The direction to a power that the norm sets, under its angle, Eq. 16."""
        # Tiles run the faster form in kernel/derivatives.py; change both.
        d, norm = direction(q)
        return self._inhibited(signed_power(d, self.lam * (self.tau + norm.tanh())), d)

    def phi_k(self, k: Tensor) -> Halves:
        """The key to a fixed power, under its direction's angle."""
        # Tiles run the faster form in kernel/derivatives.py; change both.
        return self._inhibited(signed_power(k, self.key_power), direction(k)[0])

    def _inhibited(self, signed: Tensor, d: Tensor) -> Halves:
        theta = (self.alpha * d).tanh() * (math.pi / 4)
        return signed.abs() * theta.cos(), signed.abs() * theta.sin()

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
