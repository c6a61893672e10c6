"""FLatten's focused features for the engine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._engine_maps import FeatureMap, Parts, Pull, where_above

_LEAST, _MOST = 5e-10, 1e10
"""Between these squared lengths the sixth powers of a row's larger entries are float32 numbers."""


@dataclass(frozen=True)
class Focused(FeatureMap):
    """f_p(y) = ||y|| / ||y^p|| y^p of y = (relu(x) + eps) a, with a weight a of (H, 1, D).

    Norms run over the channels of some heads together. Where powers could leave the range of
    float32, y is first divided by its largest entry, which cancels.

    Attributes:
        factor: p.
        joint_heads: how many heads a norm runs over.
        eps: floor of y.
    """

    factor: float
    joint_heads: int
    eps: float
    is_quiet = False
    copies_alive = 16  # with 12 it hangs on where a process's heap begins whether that is enough

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """One part, as wide as x."""
        u, peak, square_length = self._in_range(self._floored(x, weights[0]))
        sharp = u.pow_(self.factor)
        c = square_length.div_(self._square_length(sharp)).sqrt_()
        return (sharp.mul_(c if peak is None else c.mul_(peak)),)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """With u = y / peak: f = c u^p, where c = peak ||u|| / ||u^p||."""
        (a,) = weights
        y = self._floored(x, a)
        u, peak, square_length = self._in_range(y)
        slope = u.pow(self.factor - 1)
        sharp = slope * u
        sharp_square_length = self._square_length(sharp)
        c = (square_length / sharp_square_length).sqrt_()
        if peak is not None:
            c.mul_(peak)

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            (grad,) = grads
            d_c = self._total((grad * sharp).sum(dim=-1, keepdim=True)) * c
            share = (d_c / sharp_square_length).mul_(self.factor)
            d_u = (grad * (c * self.factor)).addcmul_(sharp, share, value=-1)
            d_u.mul_(slope).addcmul_(u, d_c / square_length)
            d_y = d_u if peak is None else d_u.div_(peak)
            d_a = (d_y * y).sum(dim=1, keepdim=True).div_(a)
            return where_above(x, d_y.mul_(a)), d_a

        return (sharp * c,), pull

    def _floored(self, x: Tensor, a: Tensor) -> Tensor:
        above = x.clamp(min=0.0)
        return torch.addcmul(self.eps * a, above, a, out=above)

    def _in_range(self, y: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """U = y / peak, without a peak where y will do as it is, and ||u||^2."""
        square_length = self._square_length(y)
        shortest, longest = square_length.aminmax()
        if self.factor == 3 and shortest.item() > _LEAST and longest.item() < _MOST:
            return y, None, square_length
        peak = y.amax(dim=-1, keepdim=True)
        if self.joint_heads > 1:
            peak = self._shared(self._grouped(peak).amax(dim=1))
        u = y / peak
        return u, peak, self._square_length(u)

    def _square_length(self, u: Tensor) -> Tensor:
        length: Tensor
        if len(u) == self.joint_heads and u.stride(0) < u.stride(1):
            # Tokens first: the channels of all heads are one row, and one sum.
            length = torch.linalg.vector_norm(u, dim=(0, 2), keepdim=True)
            return length.square_()
        length = torch.linalg.vector_norm(u, dim=-1, keepdim=True)
        return self._total(length.square_())

    def _total(self, by_head: Tensor) -> Tensor:
        """Over the heads of a group: (heads, n, 1), or (1, n, 1) where one group is all."""
        if self.joint_heads == 1:
            return by_head
        if len(by_head) == self.joint_heads:
            return by_head.sum(dim=0, keepdim=True)
        return self._shared(self._grouped(by_head).sum(dim=1))

    def _grouped(self, by_head: Tensor) -> Tensor:
        return by_head.view(-1, self.joint_heads, *by_head.shape[1:])

    def _shared(self, by_group: Tensor) -> Tensor:
        """(groups, n, 1) -> (heads, n, 1), or as it is where one group is all."""
        if len(by_group) == 1:
            return by_group
        return by_group.repeat_interleave(self.joint_heads, dim=0)
