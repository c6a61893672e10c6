"""Base of adapters of other packages' fused softmax kernels: one function, whoever computes it."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from ..base import Attention, CallShape
from ..mechanisms.softmax import explicit_softmax


class FusedSoftmax(Attention):
    """Softmax attention by a kernel that takes (B, N, H, D)."""

    @abstractmethod
    def _kernel(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, N, H, D), (B, M, H, D), (B, M, H, E) -> (B, N, H, E)."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        return self._kernel(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Exponentials over their sums."""
        return explicit_softmax(q, k, v, causal=self.geometry.causal)

    def flops(self, shape: CallShape) -> int:
        """Scores and the mix of values, for each pair that may be seen.

        What a compiled kernel executes beyond that cannot be seen from here.
        """
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)
