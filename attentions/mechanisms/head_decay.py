"""Linear attention with one decay per head and token: four mechanisms, one recurrence."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import one_of, positive
from ..engines.state import StateCore
from ..maths.recurrences.decay import decayed_attention
from ..maths.recurrences.gates import HEAD_RATES, spread
from ..maths.recurrences.transition import Transition
from ..precision import wide_dtype, widen
from ..registry import register_attention

_LOG_DECAY = Gate("bhn", high=0)


class HeadDecay(StateCore):
    """S_t = exp(g_t) S_{t-1} + k_t v_t^T and out_t = scale S_t^T q_t, with one g per head."""

    @abstractmethod
    def head_log_decay(self, device: torch.device) -> Tensor:
        """G of a call that gives none, (H,)."""

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One decay per head."""
        return {"log_decay": self.head_log_decay(k.device)}

    def transition(self, k: Tensor, v: Tensor, *gates: Tensor) -> Transition:
        """Decay, and then write."""
        return Transition(k, v, gates[0])


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
    capabilities=RECURRENT,
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
        self.scale = self.checked_scale(scale)
        normed = {} if score_norm == "none" else {"seen": Gate("bhn", low=0, high=1)}
        self.own_gates = {"log_decay": _LOG_DECAY, **normed}

    def head_log_decay(self, device: torch.device) -> Tensor:
        """The logarithms of gamma_h, (H,); Eq. 8."""
        head = torch.arange(self.geometry.num_heads, dtype=torch.float64, device=device)
        return torch.log1p(-torch.exp2(-5 - head))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """The decays, and a 1 that a hidden token turns to 0."""
        return super().learned_gates(k) | {"seen": k.new_ones(self.geometry.num_heads)}

    def update(self, state: Any, k: Tensor, v: Tensor, *gates: Tensor) -> Any:
        """Eq. 6."""
        if self.score_norm == "none":
            return super().update(state, k, v, *gates)
        decay, seen = gates
        context = self.transition(k, _with_ones(v), decay).applied_to(state.context)
        return RetNetState(context, decay.exp() * state.decay_sum + seen)

    def read(self, q: Tensor, state: Any, *gates: Tensor) -> Tensor:
        """Read the state, and divide."""
        if self.score_norm == "none":
            return super().read(q, state, *gates)
        return _normed(q @ state.context, state.decay_sum)

    def chunks(self, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Any]:
        """Eq. 7."""
        if self.score_norm == "none":
            return self._by_transitions(q, k, v, *rest)
        decay, seen, state = rest
        out, context = decayed_attention(q, k, _with_ones(v), decay, state.context)
        one = q.new_ones(*q.shape[:3], 1)
        kept = one * seen.unsqueeze(-1)
        sums, decay_sum = decayed_attention(one, kept, one, decay, state.decay_sum)
        return _normed(out, sums), RetNetState(context, decay_sum)

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """Zeros; float32 for half inputs."""
        state = super().init_state(batch_size, dtype=dtype, device=device)
        if self.score_norm == "none":
            return state
        sizes = (batch_size, self.geometry.num_heads, 1, 1)
        decay_sum = torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)
        return RetNetState(functional.pad(state, (0, 1)), decay_sum)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """Eq. 5, with D written out from powers of gamma."""
        place = torch.arange(q.shape[2], dtype=q.dtype, device=q.device)
        gamma = 1 - 2.0 ** (-5 - torch.arange(q.shape[1], dtype=q.dtype, device=q.device))
        decay = (gamma[:, None, None] ** (place[:, None] - place).clamp(min=0)).tril()
        if self.score_norm == "none":
            return (q @ k.mT * self.scale * decay) @ v
        decay = decay / decay.sum(dim=-1, keepdim=True).sqrt()
        scores = q @ k.mT * self.scale * decay
        return scores / scores.sum(dim=-1, keepdim=True).abs().clamp(min=1) @ v

    def flops(self, shape: CallShape) -> int:
        """Keys meet values and queries read; with ``score_norm`` the row sums as well."""
        sums = 0 if self.score_norm == "none" else 1
        return super().flops(replace(shape, value_dim=shape.value_dim + sums))


def _with_ones(v: Tensor) -> Tensor:
    return functional.pad(v, (0, 1), value=1.0)


def _normed(out: Tensor, decay_sum: Tensor) -> Tensor:
    # Below 1 only before the first key that is not hidden, where all scores are zero.
    out = out * decay_sum.clamp(min=1).rsqrt()
    return out[..., :-1] / out[..., -1:].abs().clamp(min=1)


@register_attention(
    "lightning",
    title="Lightning attention (TransNormerLLM)",
    source="Qin et al., 2023, arXiv:2307.14995; 2024, arXiv:2401.04658",
    family="recurrent",
    capabilities=RECURRENT,
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
        self.own_gates = {"log_decay": _LOG_DECAY}
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


@register_attention(
    "simple_gla",
    title="Simple GLA (scalar decay)",
    source="Yang et al., 2024, flash-linear-attention; GLA: arXiv:2312.06635",
    family="recurrent",
    capabilities=replace(
        RECURRENT, gates={"log_decay": Gate("bhn", high=0, activation="logsigmoid")}
    ),
)
class SimpleGla(HeadDecay):
    """S_t = exp(g_t) S_{t-1} + k_t v_t^T and out_t = S_t^T q_t / sqrt(head_dim).

    ``log_decay``, (B, H, N), is g_t. Without it each head has one decay that is learned,
    g = log sigmoid(decay_logit) / temperature. It starts at decay_logit = 0, where the projection
    that computes it in the authors' layer starts on average.

    Hidden tokens neither write to the state nor decay it, as if they were removed. A query whose
    keys are all hidden gets zeros.

    Hazards:
        - There is no normaliser: outputs grow with the length that a slow head remembers, and
          models put a norm behind it.

    Differences:
        - It has no paper of its own; the 1/sqrt(head_dim) is that of the authors' code: ``scale=1``
          leaves it out.

    Args:
        geometry: the shape to build for; causal.
        temperature: slows the learned decay: at 16, as in the authors' layer, half of the state
            is left after 16 tokens to begin with.
        scale: factor of the scores; head_dim^(-1/2) if None, as in the authors' code.
    """

    def __init__(
        self, geometry: Geometry, temperature: float = 16.0, scale: float | None = None
    ) -> None:
        super().__init__(geometry)
        self.temperature = positive(self.name, "temperature", temperature)
        self.scale = self.checked_scale(scale)
        self.decay_logit = nn.Parameter(torch.zeros(geometry.num_heads))

    def head_log_decay(self, device: torch.device) -> Tensor:
        """The learned log decays, (H,)."""
        return functional.logsigmoid(widen(self.decay_logit)) / self.temperature


@register_attention(
    "mamba2_ssd",
    title="Mamba-2 (SSD)",
    source="Dao and Gu, 2024, arXiv:2405.21060",
    family="recurrent",
    capabilities=replace(RECURRENT, gates={"log_decay": Gate("bhn", high=0, activation="dt")}),
)
class Mamba2Ssd(HeadDecay):
    """h_t = A_t h_{t-1} + B_t x_t^T and y_t = h_t^T C_t, with one number A_t per head.

    In attention's words C is q, B is k and x is v, which the caller has multiplied by its step, as
    the authors' minimal code has it. ``log_decay``, (B, H, N), is log A_t: the rate of the head
    times that step. Without it each head has one decay that is learned, -exp(log_rate), starting
    from the authors' range of 0.001 to 1.6 per token, slow heads first. No 1/sqrt(head_dim).

    The skip D x, the short convolution, norm and gate are in `mamba2_ssd_layer`.

    Hidden tokens neither write to the state nor decay it, as if they were removed. A query whose
    keys are all hidden gets zeros.

    Hazards:
        - There is no scale and no normaliser: outputs grow with the size of the state, and models
          put a norm behind it.

    Differences:
        - As in the authors' minimal code, values come multiplied by their step; the layer does
          that.
        - There is no 1/sqrt(head_dim), unlike in the recurrences of flash-linear-attention.

    Args:
        geometry: the shape to build for; causal. head_dim is the size of the state, value_dim that
            of a head.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        rates = spread(HEAD_RATES, geometry.num_heads)
        self.log_rate = nn.Parameter(rates.log())

    def head_log_decay(self, device: torch.device) -> Tensor:
        """The learned log decays, (H,)."""
        return -widen(self.log_rate).exp()
