"""cosFormer: ReLU features whose products fade with distance, by a cosine."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import positive, whole
from ..engines.kernel import KernelCore
from ..maths.tables import kept
from ..registry import register_attention


@register_attention(
    "cosformer",
    title="cosFormer",
    source="Qin et al., 2022, arXiv:2202.08791",
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        position_free=False,
        exports=frozenset({"bidirectional"}),
    ),
)
class Cosformer(KernelCore):
    """Linear attention with relu features and a cosine of the distance.

        w_ij  = relu(q_i) . relu(k_j) cos(pi / 2 (i - j) / m)
        out_i = sum_j w_ij v_j / max(sum_j w_ij, eps)

    with positions from 1. Ptolemy's theorem splits the cosine over two halves of 2 D features. m
    must be at least the largest position, so that no weight is negative.

    Hazards:
        - A query of weights below ``eps`` in sum, such as a negative one, shrinks towards zero: of
          zeros it gets zeros.

    Differences:
        - The paper divides by the sum of weights; the authors' code, and ours, by at least ``eps``.
        - The authors' code keeps its table of positions in float32; here it has the precision of
          the inputs.
        - The authors' other activation, elu, is broken in their code and not offered here.
        - The authors' m is the longer of queries and keys of a call; causal, ours is
          geometry.seq_len, so that ``step`` gives the same.

    Args:
        geometry: the shape to build for.
        eps: the least sum of weights, as in the authors' code; the paper divides by the sum.
        horizon: m. None takes the longer of queries and keys of the call, as the authors' code
            does; causal, where a step cannot know what is still to come, geometry.seq_len.
    """

    def __init__(
        self,
        geometry: Geometry,
        eps: float = 1e-6,
        horizon: int | None = None,
    ) -> None:
        super().__init__(geometry)
        self.least = positive(self.name, "eps", eps)
        self.feature_dim = 2 * geometry.head_dim
        if horizon is not None:
            whole(self.name, "horizon", horizon, geometry.seq_len)
        elif geometry.causal:
            horizon = geometry.seq_len
        self.horizon = horizon

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        return super().forward(q, k, v)  # no mask: m would count hidden tokens

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:  # type: ignore[override]
        """The next T tokens, none of them hidden."""
        return super().step(q, k, v, state)

    def phi_q(self, q: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """[relu(q) cos; relu(q) sin], and the same for keys."""
        above = q.relu()
        return above * cos, above * sin

    def places(
        self, start: int, stop: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each token's angle, (N, 1) each.

        Raises:
            ValueError: past the horizon.
        """
        return _angles(start, stop, self._horizon(stop), dtype, device)

    def _horizon(self, last: int) -> int:
        if self.horizon is None:
            return last
        if last > self.horizon:
            raise ValueError(
                f"{self.name}: position {last} was reached; with a horizon of {self.horizon} the "
                f"last one is {self.horizon}. Build it with a larger seq_len or horizon."
            )
        return self.horizon

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out, with distances and their cosines."""
        num_queries, num_keys = q.shape[-2], k.shape[-2]
        i, j = (torch.arange(n, device=q.device) for n in (num_queries, num_keys))
        m = self.horizon or max(num_queries, num_keys)
        fade = torch.cos(math.pi * (i[:, None] - j).to(q) / (2 * m))
        weights = q.clamp(min=0) @ k.clamp(min=0).transpose(-2, -1) * fade
        if self.geometry.causal:
            weights = weights.tril()
        return weights @ v / weights.sum(dim=-1, keepdim=True).clamp(min=self.least)


@kept
def _angles(
    start: int, stop: int, m: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Angles are taken in float64, as their rounding grows with the position."""
    place = torch.arange(start + 1, stop + 1, dtype=torch.float64, device=device)
    angle = place[:, None] * (math.pi / 2 / m)
    return angle.cos().to(dtype), angle.sin().to(dtype)
