"""Hedgehog: learned feature maps that imitate softmax attention's spiky weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import flag, one_of, share
from ..engines.kernel import KernelCore
from ..precision import widen
from ..registry import register_attention


class HeadwiseLinear(nn.Module):
    """y = W x + b with a W and b of its own for each head, or one for all; starts as the identity.

    Args:
        num_heads: H, or 1 for a map that all heads share.
        dim: D.
        bias: whether there is a b.
    """

    def __init__(self, num_heads: int, dim: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dim).repeat(num_heads, 1, 1))  # (H or 1, out, in)
        self.bias = nn.Parameter(torch.zeros(num_heads, dim)) if bias else None

    def wide(self, num_heads: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """W, (H, D, D), and b, (H, 1, D), if there is one."""
        weight = widen(self.weight).to(dtype).expand(num_heads, -1, -1)
        if self.bias is None:
            return (weight,)
        return weight, widen(self.bias).to(dtype).expand(num_heads, -1)[:, None]

    @staticmethod
    def of(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W x + b of (..., H, N, D), with what `wide` gives."""
        y = x @ weight.transpose(-2, -1)
        return y if bias is None else y + bias

    def reference(self, x: Tensor) -> Tensor:
        """Head by head, token by token."""
        weight = self.weight.expand(x.shape[1], -1, -1)
        y = torch.einsum("hfd,bhnd->bhnf", weight, x)
        return y if self.bias is None else y + self.bias.expand(x.shape[1], -1)[:, None]


@register_attention(
    "hedgehog",
    title="Hedgehog",
    source="Zhang et al., 2024, arXiv:2402.04347",
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Hedgehog(KernelCore):
    """Linear attention with a trained map in front of an exponential, normalised over channels.

        y = W x + b
        phi(x) = [softmax(y); softmax(-y)]                               (2 D features)
        out_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + eps)

    The paper has plain exponentials, [exp(y); exp(-y)]; its authors' code divides each half by
    its sum, since exponentials overflow, and that is the default. W starts as the identity, as in
    flash-linear-attention and in the authors' code with ``zero_init``. Training W so that the
    weights match those of a softmax layer is the paper's method, not this mechanism's.

    A feature is at least ``eps``, as in the authors' code: a query whose features meet none of any
    key's gets about their mean instead of nothing. A query whose keys are all hidden gets zeros.

    Hazards:
        - Softmax features sharpen with the size of their inputs: between a query and keys that
          share no sharp channel only ``eps`` decides.

    Differences:
        - The paper has plain exponentials, which overflow; the authors' code divides each half by
          its sum, and so do we by default.
        - flash-linear-attention takes one softmax of [2 y; -2 y] for all heads, which is another
          function: ``normaliser="joint"``, ``tie_heads=True``.
        - Paper and flash-linear-attention have a bias, the authors' code has none unless asked:
          ``bias``.

    Args:
        geometry: the shape to build for.
        normaliser: ``"separate"``, a softmax for y and one for -y; or ``"joint"``, the one softmax
            of [2 y; -2 y] that flash-linear-attention takes, which is another function.
        bias: whether there is a b: the paper and flash-linear-attention have one, the authors'
            code has none unless asked.
        tie_heads: one map for all heads, as in flash-linear-attention.
        tie_qk: one map for queries and keys.
        eps: the least feature, and added to the sum of weights; 1 at most.
    """

    def __init__(
        self,
        geometry: Geometry,
        normaliser: str = "separate",
        bias: bool = True,
        tie_heads: bool = False,
        tie_qk: bool = False,
        eps: float = 1e-12,
    ) -> None:
        super().__init__(geometry)
        self.normaliser = one_of(self.name, "normaliser", normaliser, ("separate", "joint"))
        flag(self.name, "bias", bias)
        self.feature_dim = 2 * geometry.head_dim
        num_maps = 1 if flag(self.name, "tie_heads", tie_heads) else geometry.num_heads
        because = "since the features that it bounds are shares"
        self.eps = share(self.name, "eps", eps, because=because)
        self.map_q = HeadwiseLinear(num_maps, geometry.head_dim, bias=bias)
        self.map_k = self.map_q
        if not flag(self.name, "tie_qk", tie_qk):
            self.map_k = HeadwiseLinear(num_maps, geometry.head_dim, bias=bias)

    def weights(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """W and b of the queries' map, then as many of the keys'."""
        heads = self.geometry.num_heads
        return self.map_q.wide(heads, dtype) + self.map_k.wide(heads, dtype)

    def phi_q(self, q: Tensor, *weights: Tensor) -> Tensor:
        """Shares of W q + b and of its negative."""
        return self._shares(HeadwiseLinear.of(q, *weights[: len(weights) // 2]))

    def phi_k(self, k: Tensor, *weights: Tensor) -> Tensor:
        """The same with the keys' map."""
        return self._shares(HeadwiseLinear.of(k, *weights[len(weights) // 2 :]))

    def _shares(self, y: Tensor) -> Tensor:
        if self.normaliser == "joint":
            phi = torch.cat((2 * y, -2 * y), dim=-1).softmax(dim=-1)
        else:
            phi = torch.stack((y, -y), dim=-2).softmax(dim=-1).flatten(-2)
        return phi.clamp(min=self.eps)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out, from exponentials over their sums."""
        phi_q, phi_k = (
            self._reference_features(y) for y in (self.map_q.reference(q), self.map_k.reference(k))
        )
        weights = torch.einsum("bhnf,bhmf->bhnm", phi_q, phi_k)
        if self.geometry.causal:
            weights = weights.tril()
        return weights @ v / (weights.sum(dim=-1, keepdim=True) + self.eps)

    def _reference_features(self, y: Tensor) -> Tensor:
        factor = 2 if self.normaliser == "joint" else 1
        largest = y.abs().amax(dim=-1, keepdim=True)
        up, down = (factor * (y - largest)).exp(), (factor * (-y - largest)).exp()
        sums = [part.sum(dim=-1, keepdim=True) for part in (up, down)]
        if self.normaliser == "joint":
            sums = [sums[0] + sums[1]] * 2
        return torch.cat((up / sums[0], down / sums[1]), dim=-1).clamp(min=self.eps)

    def map_flops(self, shape: CallShape) -> int:
        """Both maps."""
        return 2 * (shape.num_tokens + shape.num_keys) * shape.head_dim**2
