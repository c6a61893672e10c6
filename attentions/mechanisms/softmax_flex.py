"""Softmax attention by torch's FlexAttention."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import flag
from ..maths.pairs.masks import allowed_pairs
from ..maths.pairs.tiles import tiled_flops
from ..registry import register_attention
from .softmax import explicit_softmax

_BLOCK = 128
"""Queries and keys of a block, FlexAttention's own default."""


@register_attention(
    "softmax_flex",
    title="Softmax (FlexAttention)",
    source="Dong et al., 2024, arXiv:2412.05496",
    family="exact",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        masks=frozenset({"padding", "dense"}),
        exact=True,
        backward_devices=("cuda",),
    ),
)
class SoftmaxFlex(Attention):
    """softmax(q k^T / sqrt(D)) v by a kernel that is generated for the masks of the call.

    Only a compiled FlexAttention is such a kernel: with ``compiled``, or inside a module that is
    compiled itself. Otherwise it runs unfused, with the N x M weights written out, which is good
    for checking. On a CPU there is no backward pass, and the kernel takes no float64.

    Causality is a block mask: blocks above the diagonal are left out. Other masks are looked up
    pair by pair. A query whose keys are all hidden gets zeros.

    Hazards:
        - Uncompiled it allocates the N x M weights; on a CPU there is no backward pass.

    Differences:
        - None known: the same function as `softmax`.

    Args:
        geometry: the shape to build for.
        compiled: generate a kernel at the first call with a new shape, dtype or kind of mask, which
            takes seconds and a C++ compiler on a CPU.
    """

    def __init__(self, geometry: Geometry, compiled: bool = False) -> None:
        super().__init__(geometry)
        self.compiled = flag(self.name, "compiled", compiled)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        key_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        causal = self.geometry.causal
        if q.device.type == "cpu":
            q, k, v = self._without_gradients(q, k, v)
        if key_mask is None and mask is None:
            return self._mix(q, k, v, None, causal)
        allowed = allowed_pairs(self.name, q, k, causal=causal, key_mask=key_mask, mask=mask)
        assert allowed is not None
        # FlexAttention gives NaN where all keys are hidden: let such a row see all, then blank it.
        blind = ~allowed.any(dim=-1, keepdim=True)
        return self._mix(q, k, v, allowed | blind, causal).masked_fill(blind, 0.0)

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, causal: bool) -> Tensor:
        if torch.compiler.is_compiling():
            return _flex(q, k, v, allowed, causal)
        if q.is_meta:  # where torch refuses FlexAttention, and nothing but shapes is asked for
            return self.reference(q, k, v)
        if self.compiled:
            return _compiled_flex()(q, k, v, allowed, causal)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
            return _flex(q, k, v, allowed, causal)

    def _without_gradients(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Detached, since FlexAttention refuses inputs that could have gradients if asked."""
        if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
            raise ValueError(
                f"{self.name}: gradients were asked for on a cpu, where FlexAttention has no "
                "backward pass; call it under torch.no_grad(), or on a cuda device."
            )
        return tuple(x.detach() for x in tensors)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Exponentials over their sums."""
        return explicit_softmax(q, k, v, causal=self.geometry.causal)

    def flops(self, shape: CallShape) -> int:
        """Scores and the mix of values, for each pair that may be seen."""
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """All pairs unfused; compiled, those of all blocks that the diagonal leaves or cuts."""
        if not self.compiled:
            pairs = shape.num_tokens * shape.key_len
            return 2 * pairs * (shape.head_dim + shape.value_dim)
        return tiled_flops(shape, _BLOCK)


@functools.cache
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(_flex, dynamic=False)


def _flex(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, causal: bool) -> Tensor:
    """FlexAttention with a mask for pairs, broadcasting to (B, H, N, M), or without one."""
    blocks = _blocks(q.shape[-2], k.shape[-2], causal, q.device)
    if allowed is None:
        return flex_attention(q, k, v, block_mask=blocks)
    pairs = allowed.expand(*q.shape[:3], k.shape[-2])

    def hide(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return torch.where(pairs[b, h, i, j], score, -torch.inf)

    return flex_attention(q, k, v, score_mod=hide, block_mask=blocks)


def _blocks(query_len: int, key_len: int, causal: bool, device: torch.device) -> BlockMask:
    """Row i of blocks sees all blocks; causal, blocks 0..i-1 in full and block i in part.

    Said rather than found out, which would take a mask of all pairs. Without any block mask the
    kernel for CPUs takes all keys at once, and its memory grows with N x M.
    """
    rows, columns = -(-query_len // _BLOCK), -(-key_len // _BLOCK)
    row = torch.arange(rows, dtype=torch.int32, device=device)[None, None]
    column = torch.arange(columns, dtype=torch.int32, device=device).expand(1, 1, rows, columns)
    diagonal = row[..., None].expand(1, 1, rows, columns)
    return BlockMask.from_kv_blocks(
        kv_num_blocks=torch.full_like(row, int(causal)),
        kv_indices=(diagonal if causal else torch.zeros_like(column)).contiguous(),
        full_kv_num_blocks=row if causal else torch.full_like(row, columns),
        full_kv_indices=column.contiguous(),
        BLOCK_SIZE=_BLOCK,
        mask_mod=_is_not_later if causal else None,
        seq_lengths=(query_len, key_len),
    )


def _is_not_later(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    return i >= j
