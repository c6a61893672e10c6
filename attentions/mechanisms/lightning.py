"""Lightning attention: the fixed decays of TransNormerLLM, without a scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import one_of, positive
from ..maths.recurrent import HeadDecay
from ..precision import in_wide_precision, step_in_wide_precision
from ..registry import register_attention


@register_attention(
    "lightning",
    title="Lightning attention (TransNormerLLM)",
    source="Qin et al., 2023, arXiv:2307.14995; 2024, arXiv:2401.04658",
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        position_free=False,
    ),
)
class Lightning(HeadDecay):
    """out_i = sum over j <= i of lambda_h^(i - j) (q_i . k_j) v_j, with lambda_h = exp(-s_h).

    No 1/sqrt(head_dim). The SiLU on queries and keys, the norm and the gate around it belong to
    the authors' layer and are not in this core, nor is the rotation of the model's first layer.

    The slopes s_h are those of ALiBi in the authors' code: 2^(-8 (h + 1) / H) for H heads, a power
    of two; for any other number those of the power of two below, then every other one of the power
    above.

    Hidden tokens neither write to the state nor decay it, as if they were removed. A query whose
    keys are all hidden gets zeros.

    Hazards:
        - There is no scale and no normaliser: outputs grow with head_dim and with the length, and
          models put a norm behind it.

    Differences:
        - The paper prints lambda = exp(-8 h / H (1 - l / L)), which grow evenly and leave head 0
          without a decay; the authors' code has ALiBi's slopes: ``slopes``, the code's by default.
        - SiLU, norm and gate of the authors' layer are not in this core.

    Args:
        geometry: the shape to build for; causal.
        slopes: ``"alibi"`` as the authors' code, or ``"linear"`` as the paper prints.
        slope_scale: what the slopes of a layer are multiplied by. Layer l of L has
            1 - l / (L - 1) + 1e-5 in the authors' code; 1 is the first layer's.
    """

    def __init__(self, geometry: Geometry, slopes: str = "alibi", slope_scale: float = 1.0) -> None:
        super().__init__(geometry)
        self.slopes = one_of(self.name, "slopes", slopes, ("alibi", "linear"))
        self.slope_scale = positive(self.name, "slope_scale", slope_scale)

    def head_log_decay(self, device: torch.device) -> Tensor:
        """-s_h, (H,)."""
        num_heads = self.geometry.num_heads
        head = torch.arange(num_heads, dtype=torch.float64, device=device)
        if self.slopes == "linear":
            return head * (-8 / num_heads * self.slope_scale)
        power = 2 ** int(math.log2(num_heads))
        place = torch.where(head < power, head + 1, head - power + 0.5)
        return torch.exp2(place * (-8 / power)) * -self.slope_scale

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        return self._mix(q, k, v, key_mask=key_mask)

    @step_in_wide_precision
    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        return self._continue(q, k, v, state)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x N weights written out, from distances and slopes."""
        place = torch.arange(q.shape[2], dtype=q.dtype, device=q.device)
        distance = (place[:, None] - place).clamp(min=0)
        slopes = -self.head_log_decay(q.device).to(q.dtype)
        decay = (-slopes[:, None, None] * distance).exp().tril()
        return (q @ k.transpose(-2, -1) * decay) @ v
