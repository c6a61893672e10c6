"""Causal mechanisms whose state is one matrix per head.

Hidden tokens neither write to the state nor decay it, as if they were removed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..base import Attention, CallShape
from ..checks import positive
from ..precision import wide_dtype
from .decay import chunked_flops, decayed_attention, decayed_flops
from .gates import ERASED, hide_steps, log_decay_gate
from .heads import by_few_heads
from .masks import hide_keys

Recurrence = Callable[..., tuple[Tensor, Tensor]]
"""From q, k, v, gates and a state to outputs, (B, H, N, E), and the state after them."""


def from_nothing(recurrence: Recurrence, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
    """Outputs of a recurrence that begins with a state of zeros, (B, H, N, E)."""
    state = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
    of_heads = (gate.expand(-1, q.shape[1], *gate.shape[2:]) for gate in gates)

    def outputs(*inputs: Tensor) -> Tensor:
        return recurrence(*inputs)[0]

    return by_few_heads(outputs, q, k, v, *of_heads, state, num_columns=q.shape[-1])


class MatrixState(Attention):
    """A core with a state of (B, H, D, E).

    Attributes:
        recurrence: what turns states into states.
        scale: factor of the queries.
    """

    recurrence: ClassVar[Recurrence]
    scale: float = 1.0

    @abstractmethod
    def _inputs(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """Inputs of the recurrence beside a state: from q, k, v, gates and ``key_mask``."""

    def _mix(
        self, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor | None, key_mask: Tensor | None
    ) -> Tensor:
        inputs = self._inputs(q, k, v, *gates, key_mask=key_mask)
        return from_nothing(type(self).recurrence, *inputs)

    def _continue(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: Tensor,
        *gates: Tensor | None,
        key_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        inputs = self._inputs(q, k, v, *gates, key_mask=key_mask)
        return type(self).recurrence(*inputs, state)

    def _scale(self, given: float | None) -> float:
        """A checked factor, head_dim^(-1/2) unless given."""
        if given is None:
            return float(self.geometry.head_dim**-0.5)
        return positive(self.name, "scale", given)

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Zeros, (B, H, D, E); float32 for half inputs, as thousands of terms are added to it."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, g.head_dim, g.value_dim)
        return torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)


class HeadDecay(MatrixState):
    """One decay per head and token; see `_decay`."""

    recurrence = staticmethod(decayed_attention)

    @abstractmethod
    def head_log_decay(self, device: torch.device) -> Tensor:
        """Log decay of each head per token if the call gives none, (H,)."""

    def _inputs(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        log_decay: Tensor | None = None,
        *,
        key_mask: Tensor | None,
    ) -> tuple[Tensor, ...]:
        k = hide_keys(self.name, k, key_mask)
        return q * self.scale, k, v, hide_steps(self._log_decay(q, log_decay), key_mask)

    def _log_decay(self, q: Tensor, given: Tensor | None) -> Tensor:
        """(B, H, N) as given, or else (1, H, 1)."""
        if given is None:
            # One that was learned to be infinite, or nearly so, erases.
            return self.head_log_decay(q.device)[None, :, None].clamp(min=ERASED)
        return log_decay_gate(self.name, given, q.shape[:3])

    def _written_out(self, q: Tensor, k: Tensor, v: Tensor, given: Tensor | None) -> Tensor:
        """All N x N weights."""
        total = self._log_decay(q, given).to(q.dtype).expand(-1, -1, q.shape[2]).cumsum(dim=-1)
        decay = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
        return (q @ k.transpose(-2, -1) * self.scale * decay) @ v

    def flops(self, shape: CallShape) -> int:
        """Keys meet values and queries read, token by token. A gate scales: it adds no product."""
        return decayed_flops(shape)

    def executed_flops(self, shape: CallShape) -> int:
        """The chunked form also writes out the pairs within a chunk."""
        return chunked_flops(shape)
