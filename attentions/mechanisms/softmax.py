"""Softmax attention by torch's own function: the baseline of every table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import one_of
from ..maths.pairs.cache import CachedSoftmax
from ..maths.pairs.masks import allowed_pairs
from ..maths.shared_heads import for_every_query_head
from ..registry import register_attention

_TILE = 128
"""Rows and columns of a fused kernel's tile, roughly: 32 to 512 are in use."""
_BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
_FLASH_HEAD_DIM = 256
"""Largest head_dim of the fused kernel for CUDA that shares heads."""


@register_attention(
    "softmax",
    title="Softmax (torch SDPA)",
    source="Vaswani et al., 2017, arXiv:1706.03762",
    family="exact",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding", "dense"}),
        exact=True,
        exports=frozenset({"bidirectional", "causal"}),
    ),
)
class Softmax(CachedSoftmax):
    """softmax(q k^T / sqrt(D)) v by torch.nn.functional.scaled_dot_product_attention.

    Output and gradients are torch's, to the bit. A query whose keys are all hidden gets zeros. The
    state of ``step`` is a cache of keys and values for ``seq_len`` tokens. With ``num_kv_heads``
    keys and values are not copied for every query head, but handed to torch as they are
    (``enable_gqa``), where it has a fused kernel that shares heads: on a CPU, and in half precision
    without a mask on CUDA. Half precision with gradients on a CPU is left out: its kernel would add
    up the gradient of a shared head in that precision, with 1.4 times the error for four query
    heads and 3.5 times for 32.

    Hazards:
        - Time grows with N x M; memory with N where torch has a fused kernel, else with N x M.
        - The fused kernel for CPUs recomputes weights in the backward pass from the logarithm of a
          query's sum. Gradients lose digits where that logarithm passes 2^16, and overflow for
          entries of 1e4 to 1e6; `softmax_chunked` has no such limit.
        - With norms of 50 scores reach hundreds: rounding in bfloat16 then moves whole weights.

    Differences:
        - None known: it is the reference.

    Args:
        geometry: the shape to build for.
        backend: which of torch's kernels: ``"auto"`` lets torch choose; ``"math"`` is unfused, runs
            everywhere and allocates the weights; ``"flash"``, ``"efficient"`` and ``"cudnn"`` are
            fused. A CPU has ``"math"`` and ``"flash"``, and ``"flash"`` needs values as wide as
            keys. A call that the kernel cannot take is refused.
    """

    shares_heads: bool = True

    def __init__(self, geometry: Geometry, backend: str = "auto") -> None:
        super().__init__(geometry)
        self.backend = one_of(self.name, "backend", backend, ("auto", *_BACKENDS))

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        key_mask: Tensor | None = None,
        mask: Tensor | None = None,
        scale: float | None = None,
        dropout_p: float = 0.0,
    ) -> Tensor:
        """(B, H, N, D), (B, H_kv, M, D), (B, H_kv, M, E) -> (B, H, N, E), as torch's own.

        A mask that is not boolean is added to the scores; ``scale`` is D^(-1/2) if None; weights
        are dropped whether or not the module trains.
        """
        settings: dict[str, Any] = {"scale": scale, "dropout_p": dropout_p}
        causal = self.geometry.causal
        if key_mask is None and mask is None:
            return self._attend(q, k, v, is_causal=causal, **settings)
        bias = mask if mask is not None and mask.dtype != torch.bool else None
        seen = mask if bias is None else None
        allowed = allowed_pairs(self.name, q, k, causal=causal, key_mask=key_mask, mask=seen)
        if bias is not None:
            allowed = bias if allowed is None else bias.masked_fill(~allowed, -torch.inf)
        return self._attend(q, k, v, allowed, **settings)

    def _check_keywords(self, q: Tensor, k: Tensor, keywords: Mapping[str, Any]) -> None:
        mask = keywords.get("mask")
        if isinstance(mask, Tensor) and mask.dtype == q.dtype:  # added to the scores
            keywords = {**keywords, "mask": torch.empty_like(mask, dtype=torch.bool)}
        super()._check_keywords(q, k, keywords)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None, **settings: Any
    ) -> Tensor:
        if k.shape[1] != q.shape[1]:
            if self._kernel_shares_heads(q, k, v, allowed):
                return self._by_torch(q, k, v, allowed, enable_gqa=True, **settings)
            k, v = (for_every_query_head(x, q.shape[1]) for x in (k, v))
        return self._by_torch(q, k, v, allowed, **settings)

    def _kernel_shares_heads(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> bool:
        """Whether torch has a fused kernel for fewer heads of keys, as exact as one for copies."""
        is_half = q.dtype in (torch.bfloat16, torch.float16)
        if q.device.type == "cuda":  # its other kernels do not share, and torch would take none
            fits = q.shape[-1] == v.shape[-1] <= _FLASH_HEAD_DIM
            return self.backend in ("auto", "flash") and allowed is None and is_half and fits
        is_learning = torch.is_grad_enabled() and (k.requires_grad or v.requires_grad)
        return q.device.type in ("cpu", "meta") and not (is_half and is_learning)

    def _by_torch(
        self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, **settings: Any
    ) -> Tensor:
        attend = functional.scaled_dot_product_attention
        if self.backend == "auto":
            return attend(q, k, v, allowed, **settings)
        try:
            with sdpa_kernel(_BACKENDS[self.backend]):
                return attend(q, k, v, allowed, **settings)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except RuntimeError as error:
            if self.backend == "math":  # which takes everything
                raise
            dtype = str(q.dtype).removeprefix("torch.")
            masked = ", under a mask" if allowed is not None else ""
            raise ValueError(
                f"{self.name}: backend is {self.backend!r}, which has no kernel for {dtype} on "
                f"{q.device.type} with head_dim {q.shape[-1]} and value_dim {v.shape[-1]}{masked}; "
                "'math' runs everywhere, and 'auto' leaves the choice to torch."
            ) from error

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Exponentials over their sums."""
        return explicit_softmax(q, k, v, causal=self.geometry.causal)

    def flops(self, shape: CallShape) -> int:
        """Scores and the mix of values, for each pair that may be seen."""
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, and the rest of the tiles that the diagonal cuts if causal: an estimate.

        Unfused, all pairs.
        """
        if not shape.causal:
            return self.flops(shape)
        if self.backend == "math":
            pairs = shape.num_tokens * shape.key_len
            return 2 * pairs * (shape.head_dim + shape.value_dim)
        seen = sum(
            min(_TILE, shape.query_len - start) * min(start + _TILE, shape.query_len)
            for start in range(0, shape.query_len, _TILE)
        )
        return 2 * shape.batch_size * shape.num_heads * seen * (shape.head_dim + shape.value_dim)

    def decode_flops(self, shape: CallShape) -> int:
        """One query and all keys."""
        return decoded_pairs_flops(shape)


def decoded_pairs_flops(shape: CallShape) -> int:
    """Scores and the mix of values of one query for each head, with all keys of a cache."""
    per_pair = shape.head_dim + shape.value_dim
    return 2 * shape.batch_size * shape.num_heads * shape.key_len * per_pair


def explicit_softmax(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    """Eq. 1 of the paper, exponentials over their sums: (B, H, N, D), ... -> (B, H, N, E)."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if causal:
        later = torch.ones(scores.shape[-2:], device=q.device).triu(1) > 0
        scores = scores.masked_fill(later, -torch.inf)
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return weights / weights.sum(dim=-1, keepdim=True) @ v
