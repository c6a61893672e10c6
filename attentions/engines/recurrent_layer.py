"""Layers around a recurrence: projections, a short convolution, and their costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional

from ..base import AttentionLayer, CallShape, Geometry
from ..checks import whole
from ..maths.decay import decayed_flops
from ..maths.heads import split_heads
from ..maths.short_convolution import (
    convolution_flops,
    convolution_state_size,
    convolve_tokens,
    reference_convolve_tokens,
    short_convolution,
)
from .counted import counted_flops
from .state import from_empty


class RecurrentLayer(AttentionLayer):
    """A layer whose state is one matrix per head, and the tokens that a short convolution needs.

    Attributes:
        key_dim: channels of a head's queries and keys; head_dim unless set.
        conv: the short convolution, if there is one.
        recurrence_flops: FLOPs that a recurrence needs, by its formula.
    """

    recurrence_flops: Callable[[CallShape], int] = staticmethod(decayed_flops)

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.key_dim = geometry.head_dim
        self.conv: nn.Conv1d | None = None

    def mixed(
        self, recurrence: Callable[..., tuple[Tensor, Tensor]], q: Tensor, *inputs: Tensor
    ) -> Tensor:
        """Outputs of a recurrence over q, k, v and gates from an empty state, (B, H, N, E)."""
        sizes = (*q.shape[:2], self.key_dim, self.geometry.value_dim)
        return from_empty(recurrence, (q, *inputs), q.new_zeros(sizes))

    def state_size(self) -> int:
        """Numbers that one sequence leaves behind."""
        g = self.geometry
        return g.num_heads * self.key_dim * g.value_dim + convolution_state_size(self.conv)

    def flops(self, shape: CallShape) -> int:
        """Projections, convolution and the recurrence."""
        tokens = shape.batch_size * shape.query_len
        weights = sum(m.weight.numel() for m in self.children() if isinstance(m, nn.Linear))
        around = 2 * tokens * weights + convolution_flops(tokens, self.conv)
        core = replace(shape, head_dim=self.key_dim, value_dim=self.geometry.value_dim)
        return around + type(self).recurrence_flops(core)

    def executed_flops(self, shape: CallShape) -> int:
        """As torch's counter sees it in short dry runs."""
        return counted_flops(self, shape)


class ConvolvedLayer(RecurrentLayer):
    """q, k, v = silu(convolution(qkv(x)))."""

    def __init__(self, geometry: Geometry, conv_size: int) -> None:
        super().__init__(geometry)
        whole(self.name, "conv_size", conv_size, 0)
        channels, values = geometry.embed_dim, geometry.num_heads * geometry.value_dim
        self.widths = [channels, channels, values]
        self.qkv = nn.Linear(channels, sum(self.widths), bias=False)
        self.conv = short_convolution(sum(self.widths), conv_size, bias=False)

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, N, C) -> q, k and v, (B, H, N, ...) each."""
        return self._split(functional.silu(convolve_tokens(self.qkv(x), self.conv)))

    def reference_heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """The same, written out."""
        tokens = reference_convolve_tokens(self.qkv(x), self.conv)
        return self._split(tokens / (1 + (-tokens).exp()))

    def _split(self, tokens: Tensor) -> tuple[Tensor, ...]:
        parts = tokens.split(self.widths, dim=-1)
        return tuple(split_heads(part, self.geometry.num_heads) for part in parts)
