"""Hedgehog: learned feature maps that imitate softmax attention's spiky weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import kernel
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import flag, one_of, share
from ..maths.kernel_attention import KernelState, causal_kernel_attention, kernel_flops
from ..precision import wide_dtype, widen, without_autocast
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
class Hedgehog(Attention):
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
        num_maps = 1 if flag(self.name, "tie_heads", tie_heads) else geometry.num_heads
        because = "since the features that it bounds are shares"
        self.eps = share(self.name, "eps", eps, because=because)
        self.map_q = HeadwiseLinear(num_maps, geometry.head_dim, bias=bias)
        self.map_k = self.map_q
        if not flag(self.name, "tie_qk", tie_qk):
            self.map_k = HeadwiseLinear(num_maps, geometry.head_dim, bias=bias)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        return kernel.attend(
            q,
            k,
            v,
            *self._weights(q.dtype),
            queries=kernel.FeatureMap(self._query_features),
            keys=kernel.FeatureMap(self._key_features),
            eps=self.eps,
            causal=self.geometry.causal,
            key_mask=key_mask,
        )

    def _weights(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Of the queries' map, and then as many of the keys'."""
        heads, wide = self.geometry.num_heads, wide_dtype(dtype)
        return self.map_q.wide(heads, wide) + self.map_k.wide(heads, wide)

    def query_features(self, q: Tensor) -> Tensor:
        """phi(q): (B, H, N, D) -> (B, H, N, 2 D)."""
        return self._query_features(q, *self._weights(q.dtype))

    def key_features(self, k: Tensor) -> Tensor:
        """phi(k): (B, H, M, D) -> (B, H, M, 2 D)."""
        return self._key_features(k, *self._weights(k.dtype))

    def _query_features(self, q: Tensor, *weights: Tensor) -> Tensor:
        return self._features(HeadwiseLinear.of(q, *weights[: len(weights) // 2]))

    def _key_features(self, k: Tensor, *weights: Tensor) -> Tensor:
        return self._features(HeadwiseLinear.of(k, *weights[len(weights) // 2 :]))

    def _features(self, y: Tensor) -> Tensor:
        if self.normaliser == "joint":
            phi = torch.cat((2 * y, -2 * y), dim=-1).softmax(dim=-1)
        else:
            phi = torch.stack((y, -y), dim=-2).softmax(dim=-1).flatten(-2)
        return phi.clamp(min=self.eps)

    def init_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> KernelState:
        """Zeros; float32 for half inputs."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, 2 * g.head_dim, g.value_dim)
        return KernelState.empty(sizes, dtype=wide_dtype(dtype), device=device)

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: KernelState
    ) -> tuple[Tensor, KernelState]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        with without_autocast(q.device.type):
            phi_q, phi_k = self.query_features(widen(q)), self.key_features(widen(k))
            out, state = causal_kernel_attention(phi_q, phi_k, widen(v), self.eps, state)
        return out.to(q.dtype), state

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

    def flops(self, shape: CallShape) -> int:
        """Both maps, and kernel attention with 2 D features."""
        return self._map_flops(shape) + kernel_flops(shape, 2 * shape.head_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """The causal form also writes out the pairs within a chunk."""
        count = kernel.causal_flops if shape.causal else kernel_flops
        return self._map_flops(shape) + count(shape, 2 * shape.head_dim)

    @staticmethod
    def _map_flops(shape: CallShape) -> int:
        return 2 * (shape.num_tokens + shape.num_keys) * shape.head_dim**2
