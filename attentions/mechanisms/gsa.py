"""Gated slot attention: a few slots that fade, and a softmax over them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..base import CallShape, Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import positive, whole
from ..engines.state import StateCore
from ..maths.recurrences.channel_decay import channel_decayed_attention, value_decayed_attention
from ..maths.recurrences.gates import HEAD_RATES, spread
from ..precision import wide_dtype, widen
from ..registry import register_attention


class Slots(NamedTuple):
    """The contents of the slots: keys, (B, H, M, D), and values, (B, H, M, E)."""

    keys: Tensor
    values: Tensor


@register_attention(
    "gsa",
    title="GSA (gated slot attention)",
    source="Zhang et al., 2024, arXiv:2409.07146",
    family="recurrent",
    capabilities=replace(
        RECURRENT,
        gates={
            "log_decay": Gate("bhnm", high=0, activation="logsigmoid"),
            "slot": Gate("bhnm", low=0, high=1, activation="forgotten"),
        },
    ),
)
class Gsa(StateCore):
    """M slots of a key and a value each, which fade one by one; a query attends to the slots.

        K_t = diag(exp(g_t)) K_{t-1} + s_t k_t^T        V_t = diag(exp(g_t)) V_{t-1} + s_t v_t^T
        out_t = V_t^T softmax(K_t q_t / sqrt(head_dim))

    ``log_decay`` and ``slot``, (B, H, N, M) each, are g and s, the part of a token that each slot
    takes. Without them each slot of a head has a decay that is learned, g = -exp(log_rate), from
    0.001 to 1.6 per token, slow slots first, and takes s = 1 - exp(g).

    It is two passes of gated linear attention: the first gives scores, M per query, the second
    their values.

    Hidden tokens neither write to a slot nor let it fade. A query whose keys are all hidden gets
    zeros.

    Hazards:
        - Slots that hold nothing yet have a score of 0 and take their part of the softmax, so early
          outputs are small.
        - Slots with equal gates hold the same.

    Differences:
        - Authors' layer ties s = 1 - exp(g), with g = log sigmoid(W x) / 8, applies SiLU to queries
          and keys and a scale of 1; their operator has 1/sqrt(head_dim), as here.

    Args:
        geometry: the shape to build for; causal.
        num_slots: M; head_dim if None, as in the authors' layer.
        temperature: slows the decay where it is projected from tokens; 8 in paper and code.
        scale: factor of the queries; head_dim^(-1/2) if None.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_slots: int | None = None,
        temperature: float = 8.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(geometry)
        slots = geometry.head_dim if num_slots is None else num_slots
        self.gate_axes = {"m": whole(self.name, "num_slots", slots, 1)}
        self.temperature = positive(self.name, "temperature", temperature)
        self.scale = self.checked_scale(scale)
        rates = spread(HEAD_RATES, slots).log()
        self.log_rate = nn.Parameter(rates.repeat(geometry.num_heads, 1))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One decay per slot, and as much taken as is forgotten."""
        decay = -widen(self.log_rate).exp()
        return {"log_decay": decay, "slot": -torch.expm1(decay)}

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Slots:
        """Empty slots; float32 for half inputs."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, self.gate_axes["m"])
        keys = torch.zeros(*sizes, g.head_dim, dtype=wide_dtype(dtype), device=device)
        return Slots(keys, keys.new_zeros(*sizes, g.value_dim))

    def update(self, state: Slots, k: Tensor, v: Tensor, g: Tensor, slot: Tensor) -> Slots:
        """Every slot fades, and takes its part of key and value."""
        left, taken = g.exp().mT, slot.mT
        return Slots(left * state.keys + taken @ k, left * state.values + taken @ v)

    def read(self, q: Tensor, state: Slots, *gates: Tensor) -> Tensor:
        """Softmax attention to the slots."""
        return (q @ state.keys.mT).softmax(dim=-1) @ state.values

    def chunks(
        self, q: Tensor, k: Tensor, v: Tensor, g: Tensor, slot: Tensor, state: Slots
    ) -> tuple[Tensor, Slots]:
        """Scores of all tokens, and then their values, each chunk by chunk."""
        slot = slot.to(q.dtype).expand(len(q), -1, -1, -1)
        scores, keys = value_decayed_attention(q, k, slot, g, state.keys.mT)
        out, values = channel_decayed_attention(scores.softmax(-1), slot, v, g, state.values)
        return out, Slots(keys.mT, values)

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """All pairs of tokens, slot by slot."""
        q, k, v, g, slot = self._inputs(q, k, v, None, gates)
        total = g.expand(len(q), -1, -1, -1).cumsum(dim=2)
        left = (total[:, :, :, None] - total[:, :, None]).movedim(-1, 2).tril().exp().tril()
        pairs = left * slot.movedim(-1, 2)[..., None, :]  # (B, H, M, N, N)
        found = (q @ k.mT).unsqueeze(2).mul(pairs).sum(dim=-1).movedim(2, -1)
        return torch.einsum("bhim,bhmij,bhje->bhie", found.softmax(dim=-1), pairs, v)

    def flops(self, shape: CallShape) -> int:
        """A write of each slot's key and value and a read of them, per token."""
        widths = shape.head_dim + shape.value_dim
        return 4 * shape.num_tokens * self.gate_axes["m"] * widths
