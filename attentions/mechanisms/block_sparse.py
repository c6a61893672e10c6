"""BigBird's block-sparse attention: a window, a few global blocks, and some random ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import random_seed, whole
from ..registry import register_attention

_WORD = 2**32


@register_attention(
    "block_sparse",
    title="Block sparse (BigBird)",
    source="Zaheer et al., 2020, arXiv:2007.14062",
    family="sparse",
    capabilities=Capabilities(causal=True, position_free=False),
)
class BlockSparse(Attention):
    """Softmax attention in which blocks of queries see some blocks of keys only.

        out_i = sum_j exp(q_i . k_j / sqrt(D)) v_j / sum_j exp(q_i . k_j / sqrt(D)),  j seen by i

    A block of queries sees the blocks around it, the global blocks, and some of the others, drawn
    at random for each head; the queries of global blocks see all. Causal, random blocks come from
    the past, and of what a query sees only tokens 0..i remain.

    The draw of a block is a hash of the seed, the head and its own place. So it neither changes
    nor has to be kept, and a causal form's is the same for any length.

    Defaults are the paper's for its base models, 64 tokens to a block, 2 global, 3 near and 3
    random blocks. A length that is not a multiple of the block size ends in a smaller block; a
    sequence of few blocks is computed with all pairs, under a mask.

    Hazards:
        - A pair outside of the pattern is not seen, however well it matches: far tokens meet over
          several layers only.
        - Gradients at very large scores are those of torch's kernel: see `softmax`.

    Differences:
        - The paper leaves open which blocks are global; half are the first and half the last ones,
          as in the authors' code, but the first ones if causal, where no query would see the last.

    Args:
        geometry: the shape to build for.
        block_size: tokens of a block.
        num_window_blocks: near blocks, an odd number: the block itself and as many to either side.
        num_global_blocks: blocks that see all and are seen by all.
        num_random_blocks: other blocks that a block sees, as far as there are so many.
        seed: of the draw.
    """

    def __init__(
        self,
        geometry: Geometry,
        block_size: int = 64,
        num_window_blocks: int = 3,
        num_global_blocks: int = 2,
        num_random_blocks: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(geometry)
        self.block_size = whole(self.name, "block_size", block_size, 1)
        if whole(self.name, "num_window_blocks", num_window_blocks, 1) % 2 == 0:
            raise ValueError(
                f"{self.name}: num_window_blocks is {num_window_blocks}; an odd number is needed: "
                "a block and as many to either side."
            )
        self.reach = num_window_blocks // 2
        self.num_global = whole(self.name, "num_global_blocks", num_global_blocks, 0)
        self.num_random = whole(self.name, "num_random_blocks", num_random_blocks, 0)
        self.seed = random_seed(self.name, "seed", seed)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        length = q.shape[-2]
        if self._is_dense(length):
            return functional.scaled_dot_product_attention(q, k, v, self._mask(q))
        front, back = self._global_ends()
        first, last = front * self.block_size, (self._num_blocks(length) - back) * self.block_size
        near = self._local(q, k, v)[:, :, : min(last, length) - first]
        early, late = self._global(q, k, v, first, last)
        return torch.cat((early, near, late), dim=2)

    def _num_blocks(self, length: int) -> int:
        return -(-length // self.block_size)

    def _global_ends(self) -> tuple[int, int]:
        """How many of the first and of the last blocks are global."""
        back = 0 if self.geometry.causal else self.num_global // 2
        return self.num_global - back, back

    def _is_dense(self, length: int) -> bool:
        """Whether a block would see about as many blocks as there are."""
        return self._num_blocks(length) <= self._num_seen + 2 * self.reach

    @property
    def _num_seen(self) -> int:
        """Blocks that a block sees that is not global."""
        near = self.reach + 1 if self.geometry.causal else 2 * self.reach + 1
        return self.num_global + near + self.num_random

    def _global(
        self, q: Tensor, k: Tensor, v: Tensor, first: int, last: int
    ) -> tuple[Tensor, Tensor]:
        """Outputs of tokens before ``first`` and from ``last`` on, which see all."""
        if self.geometry.causal:
            q, k, v = (x[:, :, :first] for x in (q, k, v))
            early = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return early, early[:, :, :0]
        queries = torch.cat((q[:, :, :first], q[:, :, last:]), dim=2)
        both = functional.scaled_dot_product_attention(queries, k, v)
        return both[:, :, :first], both[:, :, first:]

    def _local(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Outputs of the blocks that are not global, the last one filled up."""
        num_heads, length = q.shape[1:3]
        num_blocks = self._num_blocks(length)
        front, back = self._global_ends()
        rows = slice(front, num_blocks - back)
        q, k, v = (self._in_blocks(x, num_blocks) for x in (q, k, v))  # (B, H, blocks, size, D)
        blocks, seen = self._seen_blocks(num_heads, num_blocks, q.device)
        blocks, seen = blocks[:, rows], seen[:, rows]  # (H, rows, blocks of a row)

        of_head = torch.arange(num_heads, device=q.device)[:, None, None] * num_blocks
        chosen = (of_head + blocks).flatten()
        keys, values = (
            torch.unflatten(x.flatten(1, 2).index_select(1, chosen), 1, (-1, blocks.shape[-1]))
            for x in (k, v)
        )  # (B, H * rows, blocks of a row, size, D)
        mask = self._mask_in_blocks(blocks, seen, front, length).flatten(0, 1)
        out = functional.scaled_dot_product_attention(
            q[:, :, rows].flatten(1, 2), keys.flatten(2, 3), values.flatten(2, 3), mask[None]
        )
        return torch.unflatten(out, 1, (num_heads, -1)).flatten(2, 3)

    def _in_blocks(self, x: Tensor, num_blocks: int) -> Tensor:
        missing = num_blocks * self.block_size - x.shape[-2]
        return torch.unflatten(functional.pad(x, (0, 0, 0, missing)), 2, (num_blocks, -1))

    def _mask_in_blocks(self, blocks: Tensor, seen: Tensor, front: int, length: int) -> Tensor:
        """(H, rows, queries or 1, keys), True if seen."""
        within = torch.arange(self.block_size, device=blocks.device)
        key = blocks[..., None] * self.block_size + within  # (H, rows, blocks of a row, size)
        keys_seen = (seen[..., None] & (key < length)).flatten(2)[:, :, None]
        if not self.geometry.causal:
            return keys_seen
        row = torch.arange(front, front + blocks.shape[1], device=blocks.device)
        query = row[:, None] * self.block_size + within  # (rows, size)
        return keys_seen & (key.flatten(2)[:, :, None] <= query[..., None])

    def _seen_blocks(
        self, num_heads: int, num_blocks: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """The blocks that each block sees that is not global, and whether an entry is one.

        Both (H, blocks, blocks of a row). No block is there twice.
        """
        row = torch.arange(num_blocks, device=device)[:, None]
        front, back = self._global_ends()
        ends = torch.cat((row[:front, 0], row[num_blocks - back :, 0]))
        right = 0 if self.geometry.causal else self.reach
        near = row + torch.arange(-self.reach, right + 1, device=device)
        is_there = (near >= front) & (near < num_blocks - back)
        drawn, is_drawn = self._draw(num_heads, num_blocks, device)

        shape = (num_heads, num_blocks, -1)
        blocks = torch.cat(
            (ends.expand(*shape[:2], -1), near.clamp(0, num_blocks - 1).expand(shape), drawn),
            dim=-1,
        )
        seen = torch.cat(
            (
                ends.new_ones(ends.shape, dtype=torch.bool).expand(*shape[:2], -1),
                is_there.expand(shape),
                is_drawn,
            ),
            dim=-1,
        )
        return blocks, seen

    def _draw(self, num_heads: int, num_blocks: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Random blocks of each row and whether there was one to draw: (H, blocks, num_random).

        Those with the lowest hashes among the blocks that a row does not see anyway.
        """
        row = torch.arange(num_blocks, device=device)[:, None]
        column = row.T
        is_global = self._is_global(num_blocks, device)
        is_free = ((row - column).abs() > self.reach) & ~is_global & ~is_global[:, None]
        if self.geometry.causal:
            is_free = is_free & (column < row)
        head = torch.arange(num_heads, device=device)[:, None, None]
        place = _hashed(_hashed(_hashed(head + self.seed % _WORD) + row) + column)
        hashes, blocks = place.masked_fill(~is_free, _WORD).topk(
            min(self.num_random, num_blocks), largest=False
        )
        return blocks, hashes < _WORD

    def _is_global(self, num_blocks: int, device: torch.device) -> Tensor:
        front, back = self._global_ends()
        block = torch.arange(num_blocks, device=device)
        return (block < front) | (block >= num_blocks - back)

    def _block_mask(self, num_heads: int, num_blocks: int, device: torch.device) -> Tensor:
        """(H, blocks, blocks), True if the row sees the column, causality within a block aside."""
        row = torch.arange(num_blocks, device=device)[:, None]
        is_global = self._is_global(num_blocks, device)
        always = ((row - row.T).abs() <= self.reach) | is_global | is_global[:, None]
        drawn, is_drawn = self._draw(num_heads, num_blocks, device)
        mask = always.repeat(num_heads, 1, 1)
        mask = mask | torch.zeros_like(mask).scatter(2, drawn, is_drawn)
        return mask & (row >= row.T) if self.geometry.causal else mask

    def _mask(self, q: Tensor) -> Tensor:
        """(1, H, N, N), True if seen."""
        num_heads, length = q.shape[1:3]
        block = torch.arange(length, device=q.device) // self.block_size
        mask = self._block_mask(num_heads, self._num_blocks(length), q.device)
        mask = mask[:, block[:, None], block]
        return (mask.tril() if self.geometry.causal else mask)[None]

    def keys_kept(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """Keys of the blocks that a query's block sees, up to the query if causal."""
        heads, length = q.shape[1:3]
        mask = self._block_mask(heads, self._num_blocks(length), q.device)
        own = torch.arange(length, device=q.device) // self.block_size
        tokens = own.bincount()
        kept = (mask * tokens).sum(dim=-1)[:, own]
        if self.geometry.causal:
            kept = kept - (tokens.cumsum(0)[own] - 1 - torch.arange(length, device=q.device))
        return kept

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x N weights, block by block; only the draw is that of `forward`."""
        num_heads, length = q.shape[1:3]
        size, causal = self.block_size, self.geometry.causal
        num_blocks = -(-length // size)
        num_last = 0 if causal else self.num_global // 2
        special = {*range(self.num_global - num_last), *range(num_blocks - num_last, num_blocks)}
        drawn, is_drawn = (x.tolist() for x in self._draw(num_heads, num_blocks, q.device))
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).exp()
        visible = torch.zeros_like(weights)
        for h in range(num_heads):
            for i in range(num_blocks):
                random = {
                    j for j, is_one in zip(drawn[h][i], is_drawn[h][i], strict=True) if is_one
                }
                near = set(range(i - self.reach, i + self.reach + 1))
                for j in range(num_blocks):
                    if i in special or j in special | near | random:
                        visible[:, h, i * size : (i + 1) * size, j * size : (j + 1) * size] = 1
        weights = weights * (visible.tril() if causal else visible)
        out: Tensor = weights / weights.sum(dim=-1, keepdim=True) @ v
        return out

    def flops(self, shape: CallShape) -> int:
        """Scores and the mix of values, for each pair that is seen."""
        size, num_blocks = self.block_size, self._num_blocks(shape.query_len)
        mask = self._block_mask(shape.num_heads, num_blocks, torch.device("cpu")).long()
        tokens = torch.full((num_blocks,), size, device="cpu")
        tokens[-1] = shape.query_len - (num_blocks - 1) * size
        pairs = int((mask * tokens[:, None] * tokens).sum())
        if shape.causal:
            pairs -= shape.num_heads * int((tokens * (tokens - 1) // 2).sum())
        return 2 * shape.batch_size * pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, with whole blocks, and as many of them in each row."""
        length, size = shape.query_len, self.block_size
        pairs = length**2
        if not self._is_dense(length):
            front, back = self._global_ends()
            first, last = front * size, (self._num_blocks(length) - back) * size
            columns = first if shape.causal else length
            pairs = (last - first) * size * self._num_seen
            pairs += (first + max(0, length - last)) * columns
        heads = shape.batch_size * shape.num_heads
        return 2 * heads * pairs * (shape.head_dim + shape.value_dim)


def _hashed(x: Tensor) -> Tensor:
    """32 bits that look random from about as many, as int64; no product passes 2^63."""
    x = x % _WORD
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B % _WORD
    return (x >> 16) ^ x
