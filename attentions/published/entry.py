"""Base of entries of the family ``published``: one of our mechanisms beside the operators.

Ours lends the learned values, the slow form and the count of FLOPs, so that nothing but `forward`
differs. Here `forward` is what the authors' code does, operator by operator, with its copies and
layouts and with the places where it is not finite. It is never made faster or safer: it is what
ours is compared with. The operators are run and proven in float32 and float64.
"""

from __future__ import annotations

from torch import Tensor

from ..base import Attention, AttentionLayer, CallShape


class PublishedCore(Attention):
    """A core with the authors' operators; ``ours`` is set by the constructor."""

    ours: Attention

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
        """That of ours."""
        return self.ours.reference(q, k, v)

    def flops(self, shape: CallShape) -> int:
        """Those of ours: the mathematics is the same."""
        return self.ours.flops(shape)


class PublishedLayer(AttentionLayer):
    """A layer with the authors' operators; ``ours`` is set by the constructor."""

    ours: AttentionLayer

    def reference(self, x: Tensor) -> Tensor | None:
        """That of ours."""
        return self.ours.reference(x)

    def flops(self, shape: CallShape) -> int:
        """Those of ours: the mathematics is the same."""
        return self.ours.flops(shape)
