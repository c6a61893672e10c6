"""Softmax attention within a window around each token, in time and memory linear in N."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import whole
from ..maths.cache import grouped_queries, room_for, ungrouped, write
from ..maths.shared_heads import KeepsKeysAndValues, for_every_query_head
from ..registry import register_attention

_LARGEST_BLOCK = 128
"""Queries of a block: with more, too many of its pairs lie outside the band."""


class WindowState(NamedTuple):
    """The last tokens, in rings: token t stands at place t modulo R.

    R is window + 1, so that a token that is decoded finds itself and its window; seq_len if that is
    less.

    Attributes:
        k: (B, H_kv, R, D).
        v: (B, H_kv, R, E).
        length: tokens so far, those that are no longer there included.
    """

    k: Tensor
    v: Tensor
    length: int

    def with_one(self, mechanism: str, k: Tensor, v: Tensor) -> WindowState:
        """The same rings, the oldest token of a full one overwritten."""
        place = self.length % self.k.shape[2]
        write(mechanism, "k", self.k[:, :, place : place + 1], k)
        write(mechanism, "v", self.v[:, :, place : place + 1], v)
        return self._replace(length=self.length + 1)

    def with_many(self, k: Tensor, v: Tensor) -> WindowState:
        """Other rings, since more than one token of these would be lost."""
        length, size = self.length + k.shape[2], self.k.shape[2]
        last = torch.arange(max(length - size, self.length), length, device=k.device)
        new_k, new_v = (
            ring.index_copy(2, last % size, new[:, :, k.shape[2] - len(last) :].to(ring.dtype))
            for ring, new in ((self.k, k), (self.v, v))
        )
        return WindowState(new_k, new_v, length)

    def in_order(self, window: int) -> tuple[Tensor, Tensor]:
        """The last tokens, ``window`` of them at most, the oldest first."""
        last = torch.arange(max(0, self.length - window), self.length, device=self.k.device)
        k, v = (ring.index_select(2, last % ring.shape[2]) for ring in (self.k, self.v))
        return k, v


@register_attention(
    "sliding_window",
    title="Sliding window",
    source="Beltagy et al., 2020, Longformer, arXiv:2004.05150",
    family="sparse",
    capabilities=Capabilities(causal=True, recurrent=True, position_free=False),
)
class SlidingWindow(KeepsKeysAndValues):
    """Softmax attention of query i to the keys from i - window to i + window; causal, to i.

        out_i = softmax(q_i k_j^T / sqrt(D) over |i - j| <= window) v_j

    Blocks of queries meet the block of keys that all their windows lie in; neighbouring blocks of
    keys overlap. In a sequence that is hardly longer than such a block all pairs are computed.

    Hazards:
        - A key outside of the window is not seen, however well it matches: far tokens meet over
          several layers only.
        - Gradients at very large scores are those of torch's kernel: see `softmax`.

    Differences:
        - Longformer counts both sides of the window together, here each side counts: its 512 is
          256.
        - Longformer's global tokens and dilation are not offered.
        - Mistral, Gemma and gpt-oss count the query itself: their window of W tokens is W - 1 here,
          and W in `softmax_sinks` and `fox`, which count as they do.

    Args:
        geometry: the shape to build for.
        window: the largest distance of a key that is seen, to either side. Longformer counts both
            sides together: its 512 is 256 here.
    """

    def __init__(self, geometry: Geometry, window: int = 256) -> None:
        super().__init__(geometry)
        self.window = whole(self.name, "window", window, 0)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        return self._within_window(q, k, v, past=0)

    def init_state(
        self,
        batch_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        num_kv_heads: int | None = None,
    ) -> WindowState:
        """Empty rings."""
        g = self.geometry
        heads = (batch_size, num_kv_heads or g.num_kv_heads, min(self.window + 1, g.seq_len))
        k, v = (
            torch.zeros(*heads, width, dtype=dtype, device=device)
            for width in (g.head_dim, g.value_dim)
        )
        return WindowState(k, v, 0)

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: WindowState
    ) -> tuple[Tensor, WindowState]:
        """The next T tokens: (B, H, T, D), (B, H_kv, T, D), (B, H_kv, T, E), state.

        Raises:
            ValueError: more tokens than ``seq_len`` where that is less than the window, or a state
                of other sizes.
        """
        num_heads, size = q.shape[1], state.k.shape[2]
        if size <= self.window:
            room_for(self.name, size, state.length, k.shape[2])
        if k.shape[2] == 1:
            state = state.with_one(self.name, k, v)
            # All that a full ring holds is seen, in whatever order.
            keys, values = (x[:, :, : min(state.length, size)] for x in (state.k, state.v))
            queries = grouped_queries(q, state.k.shape[1])
            out = functional.scaled_dot_product_attention(queries, keys, values)
            return ungrouped(out, num_heads), state
        before = state.in_order(self.window)
        keys, values = (
            for_every_query_head(torch.cat(parts, dim=2), num_heads)
            for parts in zip(before, (k, v), strict=True)
        )
        out = self._within_window(q, keys, values, past=before[0].shape[2])
        return out, state.with_many(k, v)

    def _within_window(self, q: Tensor, k: Tensor, v: Tensor, *, past: int) -> Tensor:
        """Query i stands at key past + i; there are no keys after the last query."""
        length = q.shape[-2]
        band = _Band.of(self.window, length, past + length, causal=self.geometry.causal)
        if band.num_keys >= past + length:
            pairs = torch.ones(length, past + length, dtype=torch.bool, device=q.device)
            seen = pairs.tril(past + band.right).triu(past - band.left)
            return functional.scaled_dot_product_attention(q, k, v, seen)
        return _in_blocks(q, k, v, band, past)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x N weights, those outside of the band zero."""
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).exp()
        weights = weights.tril(0 if self.geometry.causal else self.window).triu(-self.window)
        out: Tensor = weights / weights.sum(dim=-1, keepdim=True) @ v
        return out

    def flops(self, shape: CallShape) -> int:
        """Scores and the mix of values, for each pair within the band."""
        window = min(self.window, shape.query_len - 1)
        sides = 1 if shape.causal else 2
        pairs = shape.query_len * (sides * window + 1) - sides * window * (window + 1) // 2
        heads = shape.batch_size * shape.num_heads
        return 2 * heads * pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, for all pairs of each block."""
        band = _Band.of(self.window, shape.query_len, shape.query_len, causal=shape.causal)
        pairs = shape.query_len**2
        if band.num_keys < shape.query_len:
            pairs = band.num_blocks(shape.query_len) * band.block * band.num_keys
        heads = shape.batch_size * shape.num_heads
        return 2 * heads * pairs * (shape.head_dim + shape.value_dim)

    def decode_flops(self, shape: CallShape) -> int:
        """One query and the keys of its window."""
        keys = min(self.window + 1, shape.key_len)
        heads = shape.batch_size * shape.num_heads
        return 2 * heads * keys * (shape.head_dim + shape.value_dim)


class _Band(NamedTuple):
    """How far queries see, and how many of them go together.

    Attributes:
        left: keys seen before a query.
        right: keys seen after it.
        block: queries of a block.
    """

    left: int
    right: int
    block: int

    @classmethod
    def of(cls, window: int, query_len: int, key_len: int, *, causal: bool) -> _Band:
        """A window of no more keys than there are."""
        window = min(window, key_len - 1)
        block = min(max(window, 1), _LARGEST_BLOCK, query_len)
        return cls(left=window, right=0 if causal else window, block=block)

    @property
    def num_keys(self) -> int:
        """Keys that the queries of a block see between them."""
        return self.left + self.block + self.right

    def num_blocks(self, query_len: int) -> int:
        return -(-query_len // self.block)


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, band: _Band, past: int) -> Tensor:
    """All blocks at once, as heads of one call; their keys are overlapping views of one tensor."""
    length = q.shape[-2]
    num_blocks = band.num_blocks(length)
    missing = num_blocks * band.block - length
    before = band.left - past  # keys that the first query would see, if there were any
    queries = torch.unflatten(_padded(q, 0, missing), -2, (num_blocks, band.block))
    keys, values = (
        _padded(x, before, band.right + missing)
        .flatten(0, 1)
        .unfold(1, band.num_keys, band.block)
        .transpose(-2, -1)
        for x in (k, v)
    )  # (B * H, blocks, keys of a block, D)
    mask = _seen_in_blocks(band, num_blocks, length, before, q.device)
    out = functional.scaled_dot_product_attention(queries.flatten(0, 1), keys, values, mask)
    return torch.unflatten(out.flatten(1, 2)[:, :length], 0, q.shape[:2])


def _padded(x: Tensor, before: int, after: int) -> Tensor:
    return functional.pad(x, (0, 0, before, after))


def _seen_in_blocks(
    band: _Band, num_blocks: int, length: int, before: int, device: torch.device
) -> Tensor:
    """(1, blocks, queries of a block, keys of a block), True if seen."""
    # The key's place in the padded tensor; queries stand ``band.left`` places further on.
    query = torch.arange(band.block, device=device)[:, None]
    key = torch.arange(band.num_keys, device=device)
    is_near = (key >= query) & (key <= query + band.left + band.right)
    first = torch.arange(num_blocks, device=device)[:, None, None] * band.block
    exists = (first + key >= before) & (first + key < band.left + length)
    # A query that is only there to fill its block sees all: an empty row has no softmax.
    seen = (is_near & exists) | (first + query >= length)
    return seen[None]
