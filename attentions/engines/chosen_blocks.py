"""Softmax over chosen blocks of keys: each block meets the queries that chose it, and no others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from ..base import CallShape
from ..inputs import is_eager_cpu
from ..maths.pairs.blocks import (
    best_blocks,
    block_means,
    blocks_before,
    keys_of_blocks,
    pairs_of_blocks,
)
from ..maths.pairs.tiles import Tiling, scaled, tiled_flops
from ..precision import backward_without_autocast, widen
from .pair import Attend, PairCore
from .tiled_pairs import SoftmaxWeights, plain_gradients, tiled_pairs


class BlockCore(PairCore):
    """Softmax over the keys of some blocks, chosen for each query by the means of their keys.

    A core gives `order`, and sets the attributes. A query's own block is always chosen, up to the
    query. The choice has no gradient.

    Attributes:
        block_size: tokens of a block; the last one may have fewer.
        most: blocks of a query, its own among them.
        near: the last tokens that a query sees in any case.
    """

    softmax = True
    block_size: int
    most: int
    near: int = 1

    @abstractmethod
    def order(self, q: Tensor, means: Tensor, places: Tensor, blocks: Tensor) -> Tensor:
        """Scores of blocks, (B, H, N, blocks): the highest are chosen, never minus infinity.

        Args:
            q: (B, H, N, D).
            means: mean keys of the whole blocks, (B, H_kv, blocks, D).
            places: where each query stands among all tokens, (N, 1).
            blocks: numbers of the whole blocks, (blocks,).
        """

    def sees_all(self, num_tokens: int) -> bool:
        """Whether every block is chosen, so that nothing is scored."""
        return num_tokens <= self.most * self.block_size

    @torch.no_grad()
    def choose(self, q: Tensor, k: Tensor) -> Tensor:
        """True for the blocks of each query, (B, H, N, blocks); queries are the last tokens."""
        means = block_means(widen(k), self.block_size)
        places = torch.arange(k.shape[2] - q.shape[2], k.shape[2], device=q.device).unsqueeze(-1)
        blocks = torch.arange(-(-k.shape[2] // self.block_size), device=q.device)
        order = self.order(q, means, places, blocks[: means.shape[2]])
        order = functional.pad(order, (0, len(blocks) - order.shape[-1]), value=-torch.inf)
        return best_blocks(
            order.masked_fill(blocks == places // self.block_size, torch.inf), self.most
        )

    def mix(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """Softmax over the chosen blocks."""
        if self.sees_all(k.shape[2]):
            return attend(q, k, v)
        k, v = widen(k), widen(v)  # before means are taken: a cache may be half
        return chosen_blocks(q, k, v, self.choose(q, k), self.block_size, self.tile)

    def keys_kept(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """In chosen blocks, up to the query, or near it."""
        return keys_of_blocks(self.choose(q, k), self.block_size, self.near)

    def flops(self, shape: CallShape) -> int:
        """A score for each block before a query's own, and softmax over the chosen ones."""
        n, heads = shape.query_len, shape.batch_size * shape.num_heads
        scored = 0 if self.sees_all(n) else blocks_before(n, self.block_size)
        pairs = pairs_of_blocks(n, self.block_size, self.most)
        return 2 * heads * (scored * shape.head_dim + pairs * self.pair_width(shape))

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, with scores of later blocks too, and whole blocks or tiles."""
        n, size = shape.query_len, self.block_size
        if self.sees_all(n):
            return tiled_flops(shape, self.tile)
        scored = 2 * shape.num_tokens * (n // size) * shape.head_dim
        return scored + executed_flops(shape, size, self.most, self.tile)

    def decode_flops(self, shape: CallShape) -> int:
        """One query scores all blocks and meets the keys of the chosen ones."""
        n, size, is_all = shape.key_len, self.block_size, self.sees_all(shape.key_len)
        pairs = n if is_all else decoded_pairs(n, size, self.most, self.tile)
        scored = 0 if is_all else n // size * shape.head_dim
        return 2 * shape.batch_size * shape.num_heads * (scored + pairs * self.pair_width(shape))


def chosen_blocks(
    q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, size: int, tile: int = 256
) -> Tensor:
    """out_t = softmax over the keys j <= t of the blocks that query t chose.

    On a CPU, in eager mode, pairs of long sequences that nobody chose are not computed. Which they
    are is not known to a compiler, many small products do not suit a GPU, and of short sequences
    or blocks they would be too small: there all pairs are computed, under a mask. Memory is linear
    in the number of tokens, but for gradients that are to be differentiated again.

    Args:
        q: (B, H, N, D); the last N of M tokens.
        k: (B, H_kv, M, D).
        v: (B, H_kv, M, E).
        chosen: (B, H, N, blocks); each query chose its own block, and none after it.
        size: keys of a block; the last one may have fewer.
        tile: queries and keys of a tile, where all pairs are computed.
    """
    if is_long(k.shape[2], size, tile) and is_eager_cpu(q, k, v) and not q.is_meta:
        out: Tensor = _ByBlock.apply(q, k, v, chosen, size)[0]  # type: ignore[no-untyped-call]
        return out
    return _under_mask(q, k, v, chosen, size, tile)


def _under_mask(q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, size: int, tile: int) -> Tensor:
    tiling = Tiling(
        query_len=q.shape[2],
        key_len=k.shape[2],
        size=tile,
        causal=True,
        past=k.shape[2] - q.shape[2],
    )
    return tiled_pairs(q, k, v, SoftmaxWeights(), tiling, chosen=chosen, block=size)  # type: ignore[arg-type]


def is_long(key_len: int, size: int, tile: int) -> bool:
    """Whether pairs that nobody chose are left out: many keys, in blocks that are worth a product.

    A meeting of a small block costs more by its operators than by its pairs.
    """
    return key_len > 2 * tile and size >= tile // 8


def executed_flops(shape: CallShape, size: int, most: int, tile: int) -> int:
    """Those of `chosen_blocks` on a CPU, for ``most`` blocks of a query, its own among them."""
    if not is_long(shape.key_len, size, tile):
        return tiled_flops(shape, tile)
    pairs = pairs_of_blocks(shape.query_len, size, most, whole_own=True)
    heads, width = shape.batch_size * shape.num_heads, shape.head_dim + shape.value_dim
    return 2 * heads * pairs * width


def decoded_pairs(key_len: int, size: int, most: int, tile: int) -> int:
    """Pairs of `chosen_blocks` on a CPU for the last of so many tokens."""
    own = (key_len - 1) % size + 1
    chosen = own + min(key_len - own, (most - 1) * size)
    return chosen if is_long(key_len, size, tile) else key_len


class _ByBlock(Function):
    """(q, k, v, chosen, size) -> output, largest scores, 1 / sums of weights."""

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        q = scaled(q)
        out = q.new_zeros(*q.shape[:-1], v.shape[-1])
        peaks = q.new_full((*q.shape[:-1], 1), -torch.inf)
        sums = torch.zeros_like(peaks)
        for at, of_keys, rows, later in _meetings(q, k, chosen, size):
            scores = _scores(q[at][rows], k[of_keys], later)
            peak = peaks[at][rows]
            new_peak = torch.maximum(peak, scores.amax(dim=-1, keepdim=True))
            weights, fade = scores.sub_(new_peak).exp_(), (peak - new_peak).exp_()
            peaks[at][rows] = new_peak
            sums[at][rows] = sums[at][rows] * fade + weights.sum(dim=-1, keepdim=True)
            out[at][rows] = torch.addmm(out[at][rows] * fade, weights, v[of_keys])
        inverses = sums.reciprocal_()
        return out.mul_(inverses), peaks, inverses

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.size = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Any, None]:
        """None of them is mapped over, or they would not be here."""
        return _ByBlock.apply(*inputs), None  # type: ignore[no-untyped-call]

    @staticmethod
    @backward_without_autocast
    def backward(ctx: Any, grad_out: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        q, k, v, chosen, out, peaks, inverses = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(_under_mask, chosen=chosen, size=ctx.size, tile=k.shape[2])
            found = plain_gradients(plain, (q, k, v), ctx.needs_input_grad[:3], grad_out)
            return *found, None, None
        q = scaled(q)
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q, k, v))
        grad_out = grad_out * inverses
        means = (grad_out * out).sum(dim=-1, keepdim=True)
        for at, of_keys, rows, later in _meetings(q, k, chosen, ctx.size):
            queries, grads = q[at][rows], grad_out[at][rows]
            scores = _scores(queries, k[of_keys], later)
            weights = scores.sub_(peaks[at][rows]).clamp_(max=0.0).exp_()
            grad_v[of_keys] += weights.mT @ grads
            grad_scores = (grads @ v[of_keys].mT).sub_(means[at][rows]).mul_(weights)
            grad_q[at].index_add_(0, rows, grad_scores @ k[of_keys])
            grad_k[of_keys] += grad_scores.mT @ queries
        return scaled(grad_q), grad_k, grad_v, None, None


Place = tuple[Any, ...]


def _meetings(
    q: Tensor, k: Tensor, chosen: Tensor, size: int
) -> Iterator[tuple[Place, Place, Tensor, Tensor | None]]:
    """For each block: where its head's queries and its keys are, which of them chose it.

    And, of its own queries, which pairs are hidden since the key is later.
    """
    heads, shared = q.shape[1], q.shape[1] // k.shape[1]
    past, key_len = k.shape[2] - q.shape[2], k.shape[2]
    tokens = torch.arange(past, key_len, device=q.device)
    for row in range(q.shape[0]):
        for head in range(heads):
            for block in range(-(-key_len // size)):
                rows = chosen[row, head, :, block].nonzero()[:, 0]
                if not len(rows):
                    continue
                start, stop = block * size, min(key_len, block * size + size)
                places, later = tokens[rows], None
                if places[0] < stop - 1:  # in order: the first is the earliest
                    later = torch.arange(start, stop, device=q.device) > places.unsqueeze(-1)
                yield (row, head), (row, head // shared, slice(start, stop)), rows, later


def _scores(q: Tensor, k: Tensor, later: Tensor | None) -> Tensor:
    scores = q @ k.mT
    return scores if later is None else scores.masked_fill_(later, -torch.inf)
