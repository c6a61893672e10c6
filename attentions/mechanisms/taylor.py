"""Taylor attention (Based): softmax's exponential, expanded to second order."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import one_of, positive
from ..maths.kernel_attention import CHUNK, KernelState, divide, kernel_flops
from ..maths.masks import hide_keys
from ..precision import in_wide_precision, step_in_wide_precision, wide_dtype
from ..registry import register_attention


@register_attention(
    "taylor",
    title="Taylor linear attention (Based)",
    source="Arora et al., 2024, arXiv:2402.18668",
    family="kernel",
    capabilities=Capabilities(
        causal=True, cross=True, recurrent=True, masks=frozenset({"padding"})
    ),
)
class Taylor(Attention):
    """exp(s) of the score s = q . k / sqrt(D) becomes 1 + s + s^2 / 2, which features can give.

        phi(x) = [1; y; y_i^2 / sqrt(2); y_i y_j for i < j],  y = x / D^(1/4)
        phi(q) . phi(k) = 1 + s + s^2 / 2  >=  1/2
        out_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + eps)

    There are 1 + D + D (D + 1) / 2 features: 153 for a head_dim of 16, which is what the paper
    projects queries and keys to, but 2145 for one of 64. The authors' code has 1 + D + D^2, each
    product of two channels twice. Features are made a chunk of tokens at a time, and causal pairs
    within a chunk are scored without them.

    A query whose keys are all hidden gets zeros.

    Hazards:
        - The expansion is good near a score of 0 only: below a score of -1 the weight grows again.
        - There are more than D^2 / 2 features: beyond head_dim 16 the state is large.
        - Squared scores overflow float32 at norms of about 1e8.

    Differences:
        - The authors' code has 1 + D + D^2 features, each product of two channels twice;
          flash-linear-attention and ours have each once. The function is the same.
        - eps is 1e-12 in the authors' code and 1e-6 in flash-linear-attention: ``eps``, the
          latter's by default.

    Args:
        geometry: the shape to build for.
        form: ``"features"``, linear in N; or ``"explicit"``, the same function from N x M scores,
            which is less work while N is below the number of features.
        eps: added to the sum of weights; 1e-6 as in flash-linear-attention, 1e-12 in the authors'.
    """

    def __init__(self, geometry: Geometry, form: str = "features", eps: float = 1e-6) -> None:
        super().__init__(geometry)
        self.form = one_of(self.name, "form", form, ("features", "explicit"))
        self.eps = positive(self.name, "eps", eps)

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        q, k = self._scaled(q), self._scaled(k)
        if self.form == "explicit":
            weights = self._weights(q, k, key_mask)
            return divide(weights @ v, weights.sum(dim=-1, keepdim=True) + self.eps)
        state = self.init_state(q.shape[0], dtype=q.dtype, device=q.device)
        if self.geometry.causal:
            return self._continue(q, k, v, state, key_mask)[0]
        for chunk_k, chunk_v, kept in self._chunks(k, v, key_mask):
            state = self._add(state, chunk_k, chunk_v, kept)
        return torch.cat([self._read(chunk, state) for chunk in q.split(CHUNK, dim=-2)], dim=-2)

    @staticmethod
    def _scaled(x: Tensor) -> Tensor:
        return x / math.sqrt(math.sqrt(x.shape[-1]))

    def _weights(self, q: Tensor, k: Tensor, key_mask: Tensor | None) -> Tensor:
        """1 + s + s^2 / 2 of scaled queries and keys, zero for hidden pairs: (B, H, N, M)."""
        s = q @ k.transpose(-2, -1)
        weights = 1 + s * (1 + 0.5 * s)
        if key_mask is not None:
            weights = weights.masked_fill(~key_mask[:, None, None, :], 0.0)
        return weights.tril() if self.geometry.causal else weights

    @staticmethod
    def _features(y: Tensor) -> Tensor:
        """(B, H, N, D) -> (B, H, N, F); the products of a channel with later ones are one slice."""
        mixed = [y[..., i : i + 1] * y[..., i + 1 :] for i in range(y.shape[-1] - 1)]
        return torch.cat(
            (torch.ones_like(y[..., :1]), y, y.square() * math.sqrt(0.5), *mixed), dim=-1
        )

    @staticmethod
    def _chunks(
        k: Tensor, v: Tensor, key_mask: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        parts_k, parts_v = k.split(CHUNK, dim=-2), v.split(CHUNK, dim=-2)
        masks = [None] * len(parts_k) if key_mask is None else key_mask.split(CHUNK, dim=-1)
        return zip(parts_k, parts_v, masks, strict=True)

    def _add(self, state: KernelState, k: Tensor, v: Tensor, kept: Tensor | None) -> KernelState:
        phi_k = hide_keys(self.name, self._features(k), kept)
        return KernelState(
            context=state.context + phi_k.transpose(-2, -1) @ v,
            key_sum=state.key_sum + phi_k.sum(dim=-2),
        )

    def _read(self, q: Tensor, state: KernelState) -> Tensor:
        phi_q = self._features(q)
        return divide(phi_q @ state.context, phi_q @ state.key_sum[..., None] + self.eps)

    def _continue(
        self, q: Tensor, k: Tensor, v: Tensor, state: KernelState, key_mask: Tensor | None
    ) -> tuple[Tensor, KernelState]:
        """Chunk by chunk: the keys of ``state`` come first, then those given."""
        outputs = []
        chunks = self._chunks(k, v, key_mask)
        for chunk_q, (chunk_k, chunk_v, kept) in zip(q.split(CHUNK, dim=-2), chunks, strict=True):
            weights, phi_q = self._weights(chunk_q, chunk_k, kept), self._features(chunk_q)
            numerator = weights @ chunk_v + phi_q @ state.context
            earlier = phi_q @ state.key_sum[..., None]
            normaliser = weights.sum(dim=-1, keepdim=True) + earlier + self.eps
            outputs.append(divide(numerator, normaliser))
            state = self._add(state, chunk_k, chunk_v, kept)
        return torch.cat(outputs, dim=-2), state

    def init_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> KernelState:
        """Zeros; float32 for half inputs."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, self._num_features(g.head_dim), g.value_dim)
        return KernelState.empty(sizes, dtype=wide_dtype(dtype), device=device)

    @step_in_wide_precision
    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: KernelState
    ) -> tuple[Tensor, KernelState]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        return self._continue(self._scaled(q), self._scaled(k), v, state, None)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M expansions written out."""
        s = torch.einsum("bhnd,bhmd->bhnm", q, k) / math.sqrt(q.shape[-1])
        weights = 1 + s + s.pow(2) / 2
        if self.geometry.causal:
            weights = weights.tril()
        return weights @ v / (weights.sum(dim=-1, keepdim=True) + self.eps)

    @staticmethod
    def _num_features(head_dim: int) -> int:
        return 1 + head_dim + head_dim * (head_dim + 1) // 2

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with F features, or scores and the mix of values, pair by pair."""
        if self.form == "explicit":
            return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)
        return kernel_flops(shape, self._num_features(shape.head_dim))

    def executed_flops(self, shape: CallShape) -> int:
        """Causal, all pairs of the explicit form, or features and the pairs within each chunk."""
        if not shape.causal:
            return self.flops(shape)
        per_pair = 2 * (shape.head_dim + shape.value_dim)
        if self.form == "explicit":
            return per_pair * shape.num_tokens * shape.key_len
        whole, rest = divmod(shape.query_len, CHUNK)
        pairs = shape.batch_size * shape.num_heads * (whole * CHUNK**2 + rest**2)
        across = kernel_flops(shape, self._num_features(shape.head_dim))
        return per_pair * pairs + across
