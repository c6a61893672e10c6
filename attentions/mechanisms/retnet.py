"""RetNet: retention, a fixed decay for each head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import one_of
from ..maths.decay import decayed_attention
from ..maths.gates import hide_steps
from ..maths.masks import hide_keys
from ..maths.recurrent import HeadDecay
from ..precision import in_wide_precision, step_in_wide_precision, wide_dtype
from ..registry import register_attention


class RetNetState(NamedTuple):
    """All that the past leaves behind where scores are normalised.

    Attributes:
        context: decayed sum of k_j [v_j, 1]^T, (B, H, D, E + 1).
        decay_sum: sum of the decays, (B, H, 1, 1).
    """

    context: Tensor
    decay_sum: Tensor


@register_attention(
    "retnet",
    title="RetNet (retention)",
    source="Sun et al., 2023, arXiv:2307.08621",
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        position_free=False,
    ),
)
class RetNet(HeadDecay):
    """(q k^T * D) v / sqrt(head_dim), with D_ij = gamma_h^(i - j) for j <= i, else 0 (Eq. 5).

    gamma_h = 1 - 2^(-5 - h) for head h (Eq. 8). As a recurrence, S_t = gamma S_{t-1} + k_t v_t^T
    and out_t = S_t^T q_t / sqrt(head_dim) (Eq. 6); in chunks as Eq. 7.

    The rotation of queries and keys by their position, the group norm and the gate around
    retention belong to the paper's layer and are not in this core.

    The paper divides scores by normalisers and notes that the group norm after them cancels such
    factors. Its three forms agree only up to them: here none of the forms has them unless asked.
    With ``score_norm="paper"`` (section 2.2) D is divided by the root of its row sum, then a row
    of scores by max(|its sum|, 1). The authors' code takes the sum of absolute values in its place,
    which no recurrence can follow, and lets no gradient through.

    Hidden tokens neither write to the state nor decay it, as if they were removed. A query whose
    keys are all hidden gets zeros.

    Hazards:
        - Without the group norm of the paper's layer outputs grow with head_dim and with the length
          that a slow head remembers.

    Differences:
        - The paper divides scores by normalisers which its three forms share only up to factors;
          the core has none unless ``score_norm="paper"``.
        - The authors' code takes sums of absolute values for them, which no recurrence can follow;
          not offered.
        - Rotation, group norm and gate of the paper's layer are not in this core.

    Args:
        geometry: the shape to build for; causal.
        score_norm: ``"none"`` or ``"paper"``.
        scale: factor of the scores; head_dim^(-1/2) if None.
    """

    def __init__(
        self, geometry: Geometry, score_norm: str = "none", scale: float | None = None
    ) -> None:
        super().__init__(geometry)
        self.score_norm = one_of(self.name, "score_norm", score_norm, ("none", "paper"))
        self.scale = self._scale(scale)

    def head_log_decay(self, device: torch.device) -> Tensor:
        """The logarithms of gamma_h, (H,); Eq. 8."""
        head = torch.arange(self.geometry.num_heads, dtype=torch.float64, device=device)
        return torch.log1p(-torch.exp2(-5 - head))

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        if self.score_norm == "none":
            return self._mix(q, k, v, key_mask=key_mask)
        state = self.init_state(q.shape[0], dtype=q.dtype, device=q.device)
        return self._continue(q, k, v, state, key_mask=key_mask)[0]

    @step_in_wide_precision
    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state; Eq. 6."""
        return self._continue(q, k, v, state)

    def _continue(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: Any,
        *gates: Tensor | None,
        key_mask: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        if self.score_norm == "none":
            return super()._continue(q, k, v, state, *gates, key_mask=key_mask)
        out, context = super()._continue(q, k, _with_ones(v), state.context, key_mask=key_mask)
        one = q.new_ones(q.shape[0], q.shape[1], q.shape[2], 1)
        steps = hide_steps(self._log_decay(q, None), key_mask)
        kept = hide_keys(self.name, one, key_mask)
        decay_sum, after = decayed_attention(one, kept, one, steps, state.decay_sum)
        # Below 1 only before the first key that is not hidden, where all scores are zero.
        out = out * decay_sum.clamp(min=1).rsqrt()
        return out[..., :-1] / out[..., -1:].abs().clamp(min=1), RetNetState(context, after)

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """Zeros; float32 for half inputs."""
        state = super().init_state(batch_size, dtype=dtype, device=device)
        if self.score_norm == "none":
            return state
        sizes = (batch_size, self.geometry.num_heads, 1, 1)
        decay_sum = torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)
        return RetNetState(functional.pad(state, (0, 1)), decay_sum)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Eq. 5, with D written out from powers of gamma."""
        place = torch.arange(q.shape[2], dtype=q.dtype, device=q.device)
        gamma = 1 - 2.0 ** (-5 - torch.arange(q.shape[1], dtype=q.dtype, device=q.device))
        decay = (gamma[:, None, None] ** (place[:, None] - place).clamp(min=0)).tril()
        if self.score_norm == "none":
            return (q @ k.transpose(-2, -1) * self.scale * decay) @ v
        decay = decay / decay.sum(dim=-1, keepdim=True).sqrt()
        scores = q @ k.transpose(-2, -1) * self.scale * decay
        return scores / scores.sum(dim=-1, keepdim=True).abs().clamp(min=1) @ v

    def flops(self, shape: CallShape) -> int:
        """Keys meet values and queries read; with ``score_norm`` the row sums as well."""
        return super().flops(self._with_sums(shape))

    def executed_flops(self, shape: CallShape) -> int:
        """The chunked form; with ``score_norm`` also for the sums of scores and of decays."""
        executed = super().executed_flops(self._with_sums(shape))
        if self.score_norm == "none":
            return executed
        return executed + super().executed_flops(replace(shape, head_dim=1, value_dim=1))

    def _with_sums(self, shape: CallShape) -> CallShape:
        columns = 0 if self.score_norm == "none" else 1
        return replace(shape, value_dim=shape.value_dim + columns)


def _with_ones(v: Tensor) -> Tensor:
    return functional.pad(v, (0, 1), value=1.0)
