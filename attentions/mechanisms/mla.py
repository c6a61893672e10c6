"""Multi-head latent attention: the cache holds one short vector per token for all heads."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import flag, whole
from ..inputs import check_tokens
from ..maths.heads import merge_heads, split_heads
from ..maths.pairs.cache import room_for, write
from ..maths.pairs.tiles import tiled_flops
from ..maths.rotary import turn_pairs
from ..precision import float16_in_float32, widen
from ..registry import register_attention

_BASE = 10_000.0
_NORM_EPS = 1e-6
_TILE = 128
"""Rows and columns of a fused kernel's tile, roughly."""


class LatentState(NamedTuple):
    """All that the past leaves behind, at the front of tensors that hold all that may come.

    Attributes:
        latents: c^KV of each token, (B, seq_len, kv_rank).
        rope_keys: k^R of each token, turned by its position, (B, seq_len, rope_dim); width 0
            without.
        length: tokens that are there.
    """

    latents: Tensor
    rope_keys: Tensor
    length: int

    def filled(self) -> tuple[Tensor, Tensor]:
        """Filled part of the cache: (B, n, kv_rank), (B, n, rope_dim)."""
        return self.latents[:, : self.length], self.rope_keys[:, : self.length]


@register_attention(
    "mla",
    title="Multi-head latent attention",
    source="DeepSeek-AI, 2024, DeepSeek-V2, arXiv:2405.04434, Sec. 2.1",
    family="exact",
    capabilities=Capabilities(
        causal=True,
        recurrent=True,
        position_free=False,
        heads_independent=False,
        scopes=("layer",),
        exports=frozenset({"bidirectional", "causal"}),
    ),
)
class MultiHeadLatentAttention(AttentionLayer):
    """Softmax attention whose keys and values are read off a latent of low rank.

        c = norm(W_DKV x),  k^C = W_UK c,  v = W_UV c                (Eq. 9-11)
        q^C = W_UQ c_q,  c_q = norm(W_DQ x), or x itself             (Eq. 12-13)
        q^R = rope(W_QR c_q) per head,  k^R = rope(W_KR x) for all   (Eq. 14-15)
        o = softmax([q^C; q^R] [k^C; k^R]^T / sqrt(D + rope_dim)) v  (Eq. 16-18)
        out = W_O o                                                  (Eq. 19)

    ``step`` keeps c and k^R only. For one token it never forms a key or a value: W_UK moves to the
    query and W_UV to the result. Linears have no bias, as the authors' have none.

    Positions have channels of their own: were k^C turned by position, W_UK could not move. Without
    ``rope`` these channels are missing, and a causal mask alone tells positions apart.

    Hazards:
        - All heads read one latent: ``kv_rank`` below their joint width cannot hold what each of
          them would need.
        - Training forms keys and values for all heads; only ``step`` saves memory.
        - Gradients are those of torch's kernel, which overflow for tokens of norm 1e6: see
          `softmax`.

    Differences:
        - Eq. 9 and 12 have no norm on the latents, the paper's training details and the authors'
          code have: ``latent_norm``.
        - Widths that the paper gives for its own models are multiples of head_dim here.

    Args:
        geometry: the shape to build for.
        kv_rank: width of c; 4 D if None, as DeepSeek-V2 has it (512 for D = 128).
        query_rank: width of c_q; no compression if None, as in DeepSeek-V2-Lite. DeepSeek-V2 has
            12 D, which is below the C of its 128 heads but above that of a small model.
        rope: whether there are q^R and k^R.
        rope_dim: their width, an even number; about D / 2 if None, as DeepSeek-V2 has it.
        latent_norm: RMSNorm on c and c_q, which Eq. 9 and 12 leave out, but the paper's training
            details (Sec. 3.1.2) and the authors' code have.
    """

    def __init__(
        self,
        geometry: Geometry,
        kv_rank: int | None = None,
        query_rank: int | None = None,
        rope: bool = True,
        rope_dim: int | None = None,
        latent_norm: bool = True,
    ) -> None:
        super().__init__(geometry)
        dim, channels = geometry.head_dim, geometry.embed_dim
        if kv_rank is None:
            kv_rank = 4 * dim
        if rope_dim is None:
            rope_dim = 2 * math.ceil(dim / 4)
        if whole(self.name, "rope_dim", rope_dim, 2) % 2:
            raise ValueError(
                f"{self.name}: rope_dim is {rope_dim}; an even number is needed, since pairs of "
                "channels are turned."
            )
        self.kv_rank = whole(self.name, "kv_rank", kv_rank, 1)
        self.rope_dim = rope_dim if flag(self.name, "rope", rope) else 0
        flag(self.name, "latent_norm", latent_norm)

        self.query_rank = channels
        self.q_down: nn.Module = nn.Identity()
        if query_rank is not None:
            self.query_rank = whole(self.name, "query_rank", query_rank, 1)
            self.q_down = nn.Sequential(
                _linear(channels, self.query_rank), _norm(self.query_rank, latent_norm)
            )
        self.q_up = _linear(self.query_rank, geometry.num_heads * (dim + self.rope_dim))
        self.kv_down = _linear(channels, self.kv_rank + self.rope_dim)
        self.kv_norm = _norm(self.kv_rank, latent_norm)
        self.k_up = _linear(self.kv_rank, geometry.num_heads * dim)
        self.v_up = _linear(self.kv_rank, geometry.num_heads * geometry.value_dim)
        self.proj = _linear(geometry.num_heads * geometry.value_dim, channels)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        latents, rope_keys = self._latents(x, 0)
        q = self._queries(x, 0)
        return self._attend(q, latents, rope_keys, is_causal=self.geometry.causal)

    def init_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> LatentState:
        """A cache for ``seq_len`` tokens, in the model's own dtype, as nothing is summed in it."""
        if not self.geometry.causal:
            raise ValueError(
                f"{self.name}: a cache was asked for, and causal is False; it is needed True, as "
                "a token sees what came before it."
            )
        latents, rope_keys = (
            torch.zeros(batch_size, self.geometry.seq_len, width, dtype=dtype, device=device)
            for width in (self.kv_rank, self.rope_dim)
        )
        return LatentState(latents, rope_keys, 0)

    def step(self, x: Tensor, state: LatentState) -> tuple[Tensor, LatentState]:
        """The next T tokens: (B, T, C), state -> (B, T, C), state.

        Raises:
            ValueError: the cache has no room for T tokens more, or is of other sizes.
        """
        if not torch.compiler.is_compiling():
            self._check_step(x, state)
        past, length = state.length, x.shape[1]
        end = room_for(self.name, state.latents.shape[1], past, length)
        latents, rope_keys = self._latents(x, past)
        write(self.name, "a latent", state.latents[:, past:end], latents)
        write(self.name, "a shared key", state.rope_keys[:, past:end], rope_keys)
        state = state._replace(length=end)
        q = self._queries(x, past)
        if length == 1:
            return self._attend_absorbed(q, *state.filled()), state
        if past == 0:
            return self._attend(q, latents, rope_keys, is_causal=True), state
        seen = torch.ones(length, end, dtype=torch.bool, device=x.device).tril(past)
        return self._attend(q, *state.filled(), attn_mask=seen), state

    def _check_step(self, x: Tensor, state: LatentState) -> None:
        dtypes = self.capabilities.dtypes
        check_tokens(self.name, self.geometry, dtypes, x, self.parameters())
        if not isinstance(state, LatentState):
            raise ValueError(
                f"{self.name}: state is of type {type(state).__name__}; a LatentState is needed, "
                "as init_state or the step before gave it."
            )

    def _latents(self, x: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Cached latents, c and k^R: (B, T, C) -> (B, T, kv_rank), (B, T, rope_dim)."""
        latents, rope_keys = self.kv_down(x).split((self.kv_rank, self.rope_dim), dim=-1)
        return self.kv_norm(latents), _turn(rope_keys, start)

    def _queries(self, x: Tensor, start: int) -> Tensor:
        """[q^C; q^R], the latter turned: (B, T, C) -> (B, H, T, D + rope_dim)."""
        q = split_heads(self.q_up(self.q_down(x)), self.geometry.num_heads)
        plain, turned = q.split((self.geometry.head_dim, self.rope_dim), dim=-1)
        return torch.cat((plain, _turn(turned, start)), dim=-1)

    def _attend(
        self,
        q: Tensor,
        latents: Tensor,
        rope_keys: Tensor,
        *,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        heads = self.geometry.num_heads
        shared = rope_keys[:, None].expand(-1, heads, -1, -1)
        k = torch.cat((split_heads(self.k_up(latents), heads), shared), dim=-1)
        v = split_heads(self.v_up(latents), heads)
        # Fused kernels want queries, keys and values of one width; zeros change nothing.
        q, k, v = (_widened(part, self._kernel_width) for part in (q, k, v))
        mixed = functional.scaled_dot_product_attention(
            q, k, v, attn_mask, is_causal=is_causal, scale=self._scale
        )
        return self.proj(merge_heads(mixed[..., : self.geometry.value_dim]))  # type: ignore[no-any-return]

    def _attend_absorbed(self, q: Tensor, latents: Tensor, rope_keys: Tensor) -> Tensor:
        """For queries that see all: q^C . (W_UK c) is (W_UK^T q^C) . c, and W_UV moves likewise."""
        heads = self.geometry.num_heads
        plain, turned = q.split((self.geometry.head_dim, self.rope_dim), dim=-1)
        k_up = torch.unflatten(self.k_up.weight, 0, (heads, -1))  # (H, D, kv_rank)
        v_up = torch.unflatten(self.v_up.weight, 0, (heads, -1))  # (H, E, kv_rank)
        scores = (plain @ k_up) @ latents[:, None].transpose(-2, -1)
        scores = scores + turned @ rope_keys[:, None].transpose(-2, -1)  # (B, H, T, n)
        weights = (widen(scores) * self._scale).softmax(dim=-1).to(q.dtype)
        mixed = (weights @ latents[:, None]) @ v_up.transpose(-2, -1)  # (B, H, T, E)
        return self.proj(merge_heads(mixed))  # type: ignore[no-any-return]

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.geometry.head_dim + self.rope_dim)

    @property
    def _kernel_width(self) -> int:
        return max(self.geometry.head_dim + self.rope_dim, self.geometry.value_dim)

    def reference(self, x: Tensor) -> Tensor:
        """Eq. 9-19, a head at a time."""
        compressed = x
        if isinstance(self.q_down, nn.Sequential):
            linear, norm = self.q_down
            compressed = _reference_norm(x @ linear.weight.T, norm)  # type: ignore[operator]
        down = x @ self.kv_down.weight.T
        latents = _reference_norm(down[..., : self.kv_rank], self.kv_norm)
        rope_key = _reference_turn(down[..., self.kv_rank :])
        dim, width = self.geometry.head_dim, self.geometry.head_dim + self.rope_dim
        outputs = []
        for h in range(self.geometry.num_heads):
            query = compressed @ self.q_up.weight[h * width : (h + 1) * width].T
            key = latents @ self.k_up.weight[h * dim : (h + 1) * dim].T
            scores = query[..., :dim] @ key.transpose(-2, -1)
            scores = scores + _reference_turn(query[..., dim:]) @ rope_key.transpose(-2, -1)
            exponentials = (scores / math.sqrt(width)).exp()
            if self.geometry.causal:
                exponentials = exponentials.tril()
            size = self.geometry.value_dim
            value = latents @ self.v_up.weight[h * size : (h + 1) * size].T
            outputs.append(exponentials / exponentials.sum(dim=-1, keepdim=True) @ value)
        return torch.cat(outputs, dim=-1) @ self.proj.weight.T

    def flops(self, shape: CallShape) -> int:
        """Projections, keys and values from the latents, scores and the mix of values."""
        per_pair = shape.head_dim + self.rope_dim + shape.value_dim
        tokens = shape.batch_size * shape.query_len
        expand = 2 * self.kv_rank * shape.num_heads * (shape.head_dim + shape.value_dim)
        return tokens * (self._projection_flops(shape) + expand) + 2 * shape.num_pairs * per_pair

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, with values padded to the width of keys, and whole tiles if causal."""
        width = self._kernel_width
        tokens = shape.batch_size * shape.query_len
        expand = 2 * self.kv_rank * shape.num_heads * (shape.head_dim + shape.value_dim)
        pairs = tiled_flops(shape, _TILE) // (shape.head_dim + shape.value_dim)
        return tokens * (self._projection_flops(shape) + expand) + 2 * width * pairs

    def decode_flops(self, shape: CallShape) -> int:
        """Projections of one token, W_UK and W_UV applied to it, and one pass over the latents."""
        absorb = 2 * self.kv_rank * shape.num_heads * (shape.head_dim + shape.value_dim)
        per_key = 2 * shape.num_heads * (2 * self.kv_rank + self.rope_dim)
        token = self._projection_flops(shape) + absorb + per_key * shape.key_len
        return shape.batch_size * token

    def _projection_flops(self, shape: CallShape) -> int:
        """FLOPs of one token's projections, W_UK and W_UV aside."""
        channels = shape.num_heads * shape.head_dim
        compress = 2 * channels * self.query_rank if isinstance(self.q_down, nn.Sequential) else 0
        query = 2 * self.query_rank * shape.num_heads * (shape.head_dim + self.rope_dim)
        latent = 2 * channels * (self.kv_rank + self.rope_dim)
        return compress + query + latent + 2 * shape.num_heads * shape.value_dim * channels


def _linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def _norm(channels: int, wanted: bool) -> nn.Module:
    return nn.RMSNorm(channels, eps=_NORM_EPS) if wanted else nn.Identity()


def _widened(x: Tensor, width: int) -> Tensor:
    return functional.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x


def _turn(x: Tensor, start: int) -> Tensor:
    """Turn pairs of adjacent channels by the token's position, ``start`` and up: (..., T, F)."""
    return turn_pairs(x, torch.arange(start, start + x.shape[-2], device=x.device))


def _reference_norm(x: Tensor, norm: nn.Module) -> Tensor:
    if not isinstance(norm, nn.RMSNorm):
        return x
    assert norm.weight is not None
    return x / (x.pow(2).mean(dim=-1, keepdim=True) + _NORM_EPS).sqrt() * norm.weight


def _reference_turn(x: Tensor) -> Tensor:
    """Slow form of `_turn` from position 0 on, as a product with a matrix per position."""
    length, width = x.shape[-2:]
    rows = []
    for position in range(length):
        turn = torch.zeros(width, width, dtype=x.dtype, device=x.device)
        for channel in range(0, width, 2):
            angle = position * _BASE ** (-channel / width)
            turn[channel, channel] = turn[channel + 1, channel + 1] = math.cos(angle)
            turn[channel, channel + 1], turn[channel + 1, channel] = (
                -math.sin(angle),
                math.sin(angle),
            )
        rows.append(x[..., position, :] @ turn.T)
    return torch.stack(rows, dim=-2)
