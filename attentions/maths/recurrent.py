"""Causal mechanisms whose state is one matrix per head.

Hidden tokens neither write to the state nor decay it, as if they were removed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..base import Attention, CallShape, Geometry
from ..checks import flag, positive
from ..precision import wide_dtype, widen
from .decay import chunked_flops, decayed_attention, decayed_flops
from .delta_rule import (
    LENGTH_EPS,
    delta_chunked_flops,
    delta_flops,
    delta_rule,
    reference_delta_rule,
    unit_length,
)
from .gates import ERASED, hide_steps, log_decay_gate, token_gate
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
        """What the recurrence takes beside a state: of q, k, v, gates and ``key_mask``."""

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
        """What each head forgets per token if the call does not say, (H,)."""

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


class DeltaCore(MatrixState):
    """The delta rule; see `_delta_rule`.

    A step multiplies the state by I - beta k k^T, whose least eigenvalue is 1 - beta ||k||^2. The
    state grows without bound once that lies below -1, so keys are brought to unit length unless
    the caller has done so. The length of a query only scales its output.

    Args:
        geometry: the shape to build for; causal.
        normalise_keys: whether keys are divided by their length; False takes them as they come.
        normalise_queries: the same for queries.
        scale: factor of the queries; head_dim^(-1/2) if None.
    """

    recurrence = staticmethod(delta_rule)
    has_fixed_decay: bool = True

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool,
        normalise_queries: bool,
        scale: float | None,
    ) -> None:
        super().__init__(geometry)
        self.normalise_keys = flag(self.name, "normalise_keys", normalise_keys)
        self.normalise_queries = flag(self.name, "normalise_queries", normalise_queries)
        self.scale = self._scale(scale)
        self.beta_logit = nn.Parameter(torch.zeros(geometry.num_heads))

    def head_log_decay(self, device: torch.device) -> Tensor:
        """What each head forgets per token if the call does not say: nothing. (H,) or (1,)."""
        return torch.zeros(1, device=device)

    def _inputs(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        beta: Tensor | None,
        log_decay: Tensor | None = None,
        *,
        key_mask: Tensor | None,
    ) -> tuple[Tensor, ...]:
        q = (unit_length(q) if self.normalise_queries else q) * self.scale
        k = hide_keys(self.name, unit_length(k) if self.normalise_keys else k, key_mask)
        gates = (hide_steps(gate, key_mask) for gate in self._gates(q, beta, log_decay))
        return q, k, v, *gates

    def _gates(
        self, q: Tensor, beta: Tensor | None, log_decay: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Beta and log decay as given, (B, H, N), or else (1, H or 1, 1)."""
        written = widen(self.beta_logit).sigmoid()[None, :, None]
        forgotten = self.head_log_decay(q.device)[None, :, None].clamp(min=ERASED)
        if beta is not None:
            written = token_gate(self.name, "beta", beta, q.shape[:3])
        if log_decay is not None:
            forgotten = log_decay_gate(self.name, log_decay, q.shape[:3])
        return written, forgotten

    def _written_out(
        self, q: Tensor, k: Tensor, v: Tensor, beta: Tensor | None, log_decay: Tensor | None
    ) -> Tensor:
        """All N x N pairs: one triangular system for the values, then weights over them."""
        if self.normalise_keys:
            k = k / (k.pow(2).sum(dim=-1, keepdim=True) + LENGTH_EPS).sqrt()
        if self.normalise_queries:
            q = q / (q.pow(2).sum(dim=-1, keepdim=True) + LENGTH_EPS).sqrt()
        written, forgotten = self._gates(q, beta, log_decay)
        return reference_delta_rule(q * self.scale, k, v, written, forgotten)

    def flops(self, shape: CallShape) -> int:
        """A read of the state under the key, a write, and a read under the query, per token.

        Gates scale: they add no product.
        """
        return delta_flops(shape)

    def executed_flops(self, shape: CallShape) -> int:
        """The chunked form, with its hidden pairs and its systems."""
        return delta_chunked_flops(shape)
