"""Softmax whose pairs depend on the tokens between them: chunk by chunk against a past."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..base import CallShape
from ..maths.pairs.cache import PairState, kept_tokens, room_for, room_to_keep, written
from ..maths.pairs.masks import allowed_pairs
from ..maths.recurrences.chunks import CHUNK
from ..maths.recurrences.delta_rule import unit_triangular_inverse
from ..maths.shared_heads import for_every_query_head
from ..precision import wide_dtype, widen, within_range, without_autocast
from .gates import by_token
from .pair import PairCore


class Chunk(NamedTuple):
    """Some tokens, and all before them.

    Attributes:
        q: their queries, (B, H, n, D), times D^(-1/2).
        k: their keys, (B, H, n, D).
        v: their values, (B, H, n, E).
        past_k: earlier keys as the past keeps them, (B, H, P, D).
        past_v: earlier values as the past keeps them, (B, H, P, E).
        decays: what adds to the scores, (B, H, n, P + n); None without decay.
        seen: keys that are not hidden, (B, 1, 1, P + n); None if all are seen.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    past_k: Tensor
    past_v: Tensor
    decays: Tensor | None
    seen: Tensor | None

    def weights(self, scores: Tensor, *, strict: bool = False) -> Tensor:
        """Softmax of scores with the past and the chunk itself, (B, H, n, P + n).

        Args:
            scores: without decay.
            strict: whether a query does not see its own key.

        Returns:
            Weights; zeros where a query sees nothing.
        """
        if self.decays is not None:
            scores = scores + self.decays
        past = scores.shape[-1] - scores.shape[-2]
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        hidden = hidden.triu(past if strict else past + 1)
        if self.seen is not None:
            hidden = hidden | ~self.seen
        # The lowest finite number, not minus infinity: a query may see nothing.
        lowest = torch.finfo(scores.dtype).min
        return scores.masked_fill(hidden, lowest).softmax(dim=-1).masked_fill(hidden, 0.0)


class PastCore(PairCore):
    """Softmax over earlier tokens whose keys or values tokens in between have rewritten.

    A core gives `mix_chunk`. The engine takes chunks of tokens in order, which decoding does as
    well: forward, masks, half dtypes, grouped heads and steps are its own. Heads of keys are
    copied for their queries, since each query head may rewrite them otherwise. The backward pass
    keeps what every chunk computed, so its memory grows with N^2.

    Attributes:
        chunk: tokens of a chunk.
    """

    softmax = True
    chunk: int = CHUNK

    @abstractmethod
    def mix_chunk(self, chunk: Chunk, *gates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The output of a chunk, (B, H, n, E), and keys and values of all tokens after it."""

    @abstractmethod
    def chunk_width(self, tokens: int, past: int, shape: CallShape) -> int:
        """Multiply-adds of `mix_chunk`, of one head."""

    def executed_flops(self, shape: CallShape) -> int:
        """Chunk by chunk."""
        chunks = divmod(shape.query_len, self.chunk)
        width = sum(self.chunk_width(self.chunk, n * self.chunk, shape) for n in range(chunks[0]))
        if chunks[1]:
            width += self.chunk_width(chunks[1], shape.query_len - chunks[1], shape)
        return 2 * shape.batch_size * shape.num_heads * width

    def decode_flops(self, shape: CallShape) -> int:
        """A chunk of one token."""
        width = self.chunk_width(1, shape.key_len - 1, shape)
        return 2 * shape.batch_size * shape.num_heads * width

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        key_mask: Tensor | None = None,
        **gates: Tensor | None,
    ) -> Tensor:
        """(B, H, N, D), (B, H_kv, N, D), (B, H_kv, N, E) -> (B, H, N, E)."""
        seen = allowed_pairs(self.name, q, k, causal=False, key_mask=key_mask, mask=None)
        with without_autocast(q.device.type):
            found = self._gates(q, k, key_mask, gates)
            keys, values = (for_every_query_head(widen(x), q.shape[1]) for x in (k, v))
            past = keys[:, :, :0], values[:, :, :0]
            out = self._run(widen(q), keys, values, found, self._sums(q, found), past, seen)[0]
            return within_range(out, q.dtype)

    def _run(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        gates: list[Tensor],
        sums: Tensor | None,
        past: tuple[Tensor, Tensor],
        seen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs, and keys and values of all tokens; ``sums`` are those of the past as well."""
        start, outputs = past[0].shape[2], []
        by_token(self.name, {**self.gates, **self.own_gates})
        q = q * q.shape[-1] ** -0.5
        rows = [gate.to(q.dtype).expand(-1, *q.shape[1:3], *gate.shape[3:]) for gate in gates]
        for first in range(0, q.shape[2], self.chunk):
            at = slice(first, min(first + self.chunk, q.shape[2]))
            end, decays = start + at.stop, None
            if sums is not None:
                of_rows = sums[:, :, start + at.start : end, None]
                decays = (of_rows - sums[:, :, None, :end]).to(q.dtype)
            chunk = Chunk(
                q=q[:, :, at],
                k=k[:, :, at],
                v=v[:, :, at],
                past_k=past[0],
                past_v=past[1],
                decays=decays,
                seen=None if seen is None else seen[..., :end],
            )
            out, *after = self.mix_chunk(chunk, *(row[:, :, at] for row in rows))
            past = after[0], after[1]
            outputs.append(out)
        return torch.cat(outputs, dim=2), *past

    def init_state(
        self,
        batch_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        num_kv_heads: int | None = None,
    ) -> PairState:
        """An empty cache with room for ``seq_len`` tokens, float32 or wider, per query head."""
        heads = self.geometry.num_heads
        return super().init_state(
            batch_size, dtype=wide_dtype(dtype), device=device, num_kv_heads=heads
        )

    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: PairState,
        *,
        key_mask: Tensor | None = None,
        **gates: Tensor | None,
    ) -> tuple[Tensor, PairState]:
        """The next T tokens: (B, H, T, D), (B, H_kv, T, D), (B, H_kv, T, E), state.

        The state that is given stays as it is.

        Raises:
            ValueError: the cache has no room for T tokens more, or is of other sizes.
        """
        with without_autocast(q.device.type):
            found = self._gates(q, k, key_mask, gates)
            keys, values = (for_every_query_head(widen(x), q.shape[1]) for x in (k, v))
            sums, length = self._sums(q, found), state.length
            end = room_for(self.name, state.k.shape[2], length, q.shape[2])
            if sums is not None and state.sums is not None:
                past_sums = state.sums[:, :, :length]
                sums = torch.cat((past_sums, sums + past_sums[:, :, -1:].sum(2, keepdim=True)), 2)
            past = state.k[:, :, :length], state.v[:, :, :length]
            new, seen = kept_tokens(state.kept, k, key_mask), None
            if new:
                kept = room_to_keep(state.kept, state.k)[:, :, :length]
                new = {"kept": torch.cat((kept, new["kept"]), dim=2)}
                seen = new["kept"][:, :, None]
            out, keys, values = self._run(widen(q), keys, values, found, sums, past, seen)
            new |= {"k": keys, "v": values} | ({} if sums is None else {"sums": sums})
            old = state._replace(kept=room_to_keep(state.kept, state.k))._asdict()
            after = written(self.name, old, 0, new, copied=True)
            return within_range(out, q.dtype), state._replace(length=end, **after)


def unit_inverse(below: Tensor) -> Tensor:
    """(I + A)^(-1) for a strictly lower triangular A of any size, (..., n, n)."""
    size = below.shape[-1]
    missing = (1 << (size - 1).bit_length()) - size
    padded = functional.pad(below, (0, missing, 0, missing))
    return unit_triangular_inverse(padded)[..., :size, :size]


def inverse_width(size: int) -> int:
    """Multiply-adds of `unit_inverse`."""
    whole: int = 1 << (size - 1).bit_length()
    return max(0, whole * (whole**2 - 4) // 3)
