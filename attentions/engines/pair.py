"""A weight per pair of tokens: a mechanism says how a score becomes a weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..base import CallShape
from ..checks import equal_lengths, whole
from ..maths.pairs.cache import (
    PairState,
    all_kept,
    is_followed_step,
    kept_tokens,
    room_for,
    room_to_keep,
    take_turn,
    written,
)
from ..maths.pairs.masks import allowed_pairs, near_pairs
from ..maths.pairs.tiles import Tiling, last_pairs, tile_pairs
from ..maths.shared_heads import KeepsKeysAndValues
from ..precision import wide_dtype, widen, within_range, without_autocast
from .fused_pairs import are_torchs, fused_pairs
from .gates import TakesGates
from .tiled_pairs import tiled_pairs


@dataclass(frozen=True, kw_only=True)
class Attend:
    """How the queries of a call meet its keys: ``attend(q, k, v)`` gives weighted values.

    Attributes:
        core: gives the weights.
        tiling: which keys are before which queries, and how pairs are cut into tiles.
        allowed: masks of the call, see `tiled_pairs`.
        sums: sums of log decays, see `tiled_pairs`.
    """

    core: PairCore
    tiling: Tiling
    allowed: Tensor | None = None
    sums: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, chosen: Tensor | None = None, block: int = 1
    ) -> Tensor:
        """(B, H, N, D), (B, H_kv, M, D), (B, H_kv, M, E) -> (B, H, N, E).

        ``chosen``, broadcasting to (B, H, N, blocks), hides keys outside of the chosen blocks.
        """
        sink = self.core.sink()
        if sink is not None and not self.core.softmax:
            raise TypeError(f"{self.core.name}: sink has no form without softmax = True.")
        q, k, v = widen(q), widen(k), widen(v)
        given = (self.allowed, self.sums, sink, chosen)
        if self.core.fused and all(x is None for x in given) and are_torchs(q, k, v, self.tiling):
            return fused_pairs(q, k, v, self.tiling)
        return tiled_pairs(
            *(q, k, v),
            self.core,
            self.tiling,
            allowed=self.allowed,
            chosen=chosen,
            block=block,
            sums=self.sums,
            sink=None if sink is None else widen(sink),
        )

    def over(
        self,
        key_len: int,
        allowed: Tensor | None = None,
        *,
        past: int = 0,
        window: int | None = None,
    ) -> Attend:
        """The same queries and other keys: those of a window, or any under a mask.

        Args:
            key_len: how many there are.
            allowed: pairs to keep, instead of a window.
            past: keys before the first query's place.
            window: tokens that a query sees, itself among them.

        Raises:
            TypeError: scores decay, or the call has masks and ``allowed`` is not given: both are of
                the call's own keys.
        """
        if self.sums is not None or (self.allowed is not None and allowed is None):
            what = "a decay" if self.sums is not None else "masks, unless allowed is given"
            raise TypeError(f"{self.core.name}: attend.over has no form with {what}.")
        causal = self.tiling.causal and window is not None
        tiling = replace(self.tiling, key_len=key_len, past=past, window=window, causal=causal)
        return replace(self, tiling=replace(tiling, width=None), allowed=allowed)


class PairCore(TakesGates, KeepsKeysAndValues):
    """out_i = sum_j w(s_ij) v_j with s_ij = q_i . k_j / sqrt(D).

    A mechanism gives `weights`, or says ``softmax = True``. This one squares what is positive, and
    is whole: forward, tiles, masks, grouped heads, half dtypes, decoding and FLOPs are the
    engine's.

    >>> import torch
    >>> from attentions import Capabilities, Geometry, PairCore, register_attention
    >>> @register_attention(
    ...     "squares_example",
    ...     title="Squared positive scores",
    ...     source="an example",
    ...     capabilities=Capabilities(
    ...         causal=True, cross=True, recurrent=True, masks=frozenset({"padding", "dense"})
    ...     ),
    ... )
    ... class Squares(PairCore):
    ...     def weights(self, scores):
    ...         return scores.relu().square()
    >>> core = Squares(Geometry(num_heads=2, head_dim=4, seq_len=6))
    >>> q, k, v = torch.randn(3, 1, 2, 6, 4)
    >>> weights = (q @ k.mT / 2).relu().square()
    >>> torch.allclose(core(q, k, v), weights @ v, atol=1e-5)
    True

    Tiles are computed again in the backward pass, so memory is linear in N. All pairs are kept for
    gradients of gradients, under transforms such as `torch.func.vmap`, where `weights` reads
    learned tensors, and in compiled code without a `slope`. A query whose keys are all hidden gets
    zeros.

    Attributes:
        softmax: weights are exp(s) over their sum, found relative to the largest score; `weights`
            is not asked.
        fused: whether a softmax that only causality modifies is torch's function, not tiles.
        tile: queries and keys of a tile.
        window: tokens that a query sees before it, itself among them, and as many behind it unless
            causal; None for all. Tokens that a ``key_mask`` hides are not counted, and all pairs
            are then computed.
        kept_gate: a gate of keys, (B, ..., N, W), which later queries meet: the state keeps it too.
    """

    softmax: ClassVar[bool] = False
    fused: ClassVar[bool] = False
    tile: int = 256
    window: int | None = None
    kept_gate: ClassVar[str | None] = None
    shares_heads: bool = True

    def weights(self, scores: Tensor) -> Tensor:
        """Weights of some pairs from their scores, entry by entry; scores may be overwritten."""
        raise NotImplementedError(f"{self.name} gives no weights, and softmax is False.")

    def slope(self, weights: Tensor) -> Tensor:
        """w'(s) from w(s), which saves the time that autograd takes in each tile; if given."""
        raise NotImplementedError(f"{self.name} gives no slope.")

    @property
    def has_slope(self) -> bool:
        """True for a core that gives `slope`."""
        return type(self).slope is not PairCore.slope

    def log_decay(self, *gates: Tensor) -> Tensor | None:
        """Log decay that a token adds to scores of later queries with earlier keys, (B, H, N)."""
        return None

    def sink(self) -> Tensor | None:
        """A score per head that takes its share of a softmax and has no value, (H,)."""
        return None

    def mix(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """Weighted values, (B, H, N, E): of one ``attend``, unless a mechanism has several.

        While decoding, keys and values are those of all tokens so far, in the dtype of the cache.
        """
        return attend(q, k, v)

    def finish(self, out: Tensor, *gates: Tensor) -> Tensor:
        """The output from the weighted values, (B, H, N, E)."""
        return out

    def checked_window(self, given: int | None) -> int | None:
        """A number of tokens, of a causal form only; None for all.

        Raises:
            ValueError: less than 1, or the geometry is not causal.
        """
        if given is None:
            return None
        if not self.geometry.causal:
            raise ValueError(
                f"{self.name}: window is {given}, and causal is False; it is needed True, as a "
                "window counts the tokens before a query."
            )
        return whole(self.name, "window", given, 1)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        key_mask: Tensor | None = None,
        mask: Tensor | None = None,
        **gates: Tensor | None,
    ) -> Tensor:
        """(B, H, N, D), (B, H_kv, M, D), (B, H_kv, M, E) -> (B, H, N, E)."""
        allowed = allowed_pairs(self.name, q, k, causal=False, key_mask=key_mask, mask=mask)
        window = self.window
        if window is not None and key_mask is not None and allowed is not None:
            equal_lengths(self.name, q, k, "a window under a key_mask")
            allowed, window = allowed & near_pairs(key_mask, window), None
        tiling = Tiling(
            query_len=q.shape[2],
            key_len=k.shape[2],
            size=self.tile,
            causal=self.geometry.causal,
            window=window,
        )
        with without_autocast(q.device.type):
            found = self._gates(q, k, key_mask, gates)
            sums = self._sums(q, found)
            both = None if sums is None else (sums, sums)
            attend = Attend(core=self, tiling=tiling, allowed=allowed, sums=both)
            out = self.mix(attend, widen(q), widen(k), widen(v), *found)
            return within_range(self.finish(out, *found), q.dtype)

    def _sums(self, q: Tensor, gates: list[Tensor]) -> Tensor | None:
        """g_1 + ... + g_i, (B, H, N), in float64: differences of long sums are small."""
        g = self.log_decay(*gates)
        if g is not None and not self.geometry.causal:
            raise TypeError(
                f"{self.name}: log_decay has no bidirectional form; build with causal=True, and "
                "claim bidirectional=False."
            )
        return None if g is None else g.expand(q.shape[:3]).double().cumsum(dim=-1)

    @property
    def _decays(self) -> bool:
        """True if scores decay: by a gate that these hyperparameters keep, or by another rule."""
        if any(gate.is_log_decay for gate in self.capabilities.gates.values()):
            return any(gate.is_log_decay for gate in self.gates.values())
        return type(self).log_decay is not PairCore.log_decay

    def pullback(self, scores: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Weights of a tile, and what turns their gradients into those of its scores.

        The weights may be set to 0 at hidden pairs between the two; `slope` may overwrite them.
        """
        if self.has_slope:
            weights = self.weights(scores)
            return weights, lambda grad: grad.mul_(self.slope(weights))
        with torch.enable_grad():
            leaf = scores.requires_grad_()
            own = self.weights(leaf.clone())  # which may be overwritten
        return own.detach().clone(), lambda grad: torch.autograd.grad(own, leaf, grad)[0]

    def init_state(
        self,
        batch_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        num_kv_heads: int | None = None,
    ) -> PairState:
        """An empty cache with room for ``seq_len`` tokens, or a window, in the inputs' dtype."""
        g = self.geometry
        if not g.causal:
            raise ValueError(
                f"{self.name}: a cache was asked for, and causal is False; it is needed True, as "
                "a token sees what came before it."
            )
        room = min(g.seq_len, self.window or g.seq_len)
        heads = (batch_size, num_kv_heads or g.num_kv_heads, room)
        sizes = ((*heads, width) for width in (g.head_dim, g.value_dim))
        k, v = (torch.zeros(size, dtype=dtype, device=device) for size in sizes)
        own = (batch_size, g.num_heads, room)
        sums = torch.zeros(own, dtype=torch.double, device=device) if self._decays else None
        gate = None
        if self.kept_gate is not None:
            shape = self.gate_shape(self.kept_gate, batch_size, room)
            gate = torch.zeros(shape, dtype=wide_dtype(dtype), device=device)
        return PairState(k, v, sums, 0, gate, all_kept(batch_size, device))

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

        Tokens that ``key_mask`` hides take a place in a window; those before a sequence's first
        token take none that it would need.

        Raises:
            ValueError: the cache has no room for T tokens more, is of other sizes, or used up.
        """
        with without_autocast(q.device.type):
            found = self._gates(q, k, key_mask, gates)
            sums, before = self._sums(q, found), self._last_sum(state)
            sums = sums if sums is None or before is None else sums + before
            new = {"k": k, "v": v} | kept_tokens(state.kept, k, key_mask)
            if sums is not None:
                new["sums"] = sums
            place = list(self.gates).index(self.kept_gate) if self.kept_gate else None
            if place is not None:
                new["gate"] = found[place]
            copied = is_followed_step(self, q, *new.values())
            seen, state = self._remember(new, state, copied=copied)
            keys, values, columns = seen["k"], seen["v"], seen.get("sums")
            if place is not None:
                found[place] = seen["gate"]
            kept = seen.get("kept")
            tiling = Tiling(
                query_len=q.shape[2],
                key_len=keys.shape[2],
                size=self.tile,
                causal=q.shape[2] > 1,
                window=self.window,
                past=keys.shape[2] - q.shape[2],
                width=max(self.tile, self.tile**2 // q.shape[2]),
            )
            both = None if sums is None or columns is None else (sums, columns)
            allowed = None if kept is None else kept[:, :, None]
            attend = Attend(core=self, tiling=tiling, allowed=allowed, sums=both)
            out = self.mix(attend, widen(q), keys, values, *found)
            return within_range(self.finish(out, *found), q.dtype), state

    def _last_sum(self, state: PairState) -> Tensor | None:
        if state.sums is None or state.length == 0:
            return None
        end = state.length if self.window is None else (state.length - 1) % state.sums.shape[2] + 1
        return state.sums[:, :, end - 1 : end]

    def _remember(
        self, new: dict[str, Tensor], state: PairState, *, copied: bool
    ) -> tuple[dict[str, Tensor], PairState]:
        """Fields as far as queries may see them, and the state with T tokens more."""
        room, past, more = state.k.shape[2], state.length, new["k"].shape[2]
        turn = take_turn(self.name, state.k, state.turn)
        after = state._replace(length=past + more, turn=turn)
        rings: dict[str, Any] = {what: getattr(state, what) for what in new}
        if "kept" in rings:
            rings["kept"] = room_to_keep(state.kept, state.k)
        if self.window is None or self.window > room:
            end = room_for(self.name, room, past, more)
            rings = written(self.name, rings, past, new, copied=copied)
            return {x: ring[:, :, :end] for x, ring in rings.items()}, after._replace(**rings)
        if more == 1:  # all that a ring holds is seen, in whatever order
            place = past % room
            rings = written(self.name, rings, place, new, copied=copied)
            end = min(past + 1, room)
            return {x: ring[:, :, :end] for x, ring in rings.items()}, after._replace(**rings)
        device = new["k"].device
        old = torch.arange(max(0, past - room), past, device=device) % room
        last = torch.arange(max(past, past + more - room), past + more, device=device) % room
        seen = {
            what: torch.cat((ring[:, :, old].to(new[what].dtype), new[what]), 2)
            for what, ring in rings.items()
        }
        # Other rings, since more than one token of these would be lost.
        others = {
            what: ring.index_copy(2, last, new[what][:, :, more - len(last) :].to(ring.dtype))
            for what, ring in rings.items()
        }
        return seen, after._replace(**others)

    def pair_width(self, shape: CallShape) -> int:
        """Multiply-adds for a pair: its score, and the mix of its value."""
        return shape.head_dim + shape.value_dim

    def fused_width(self, shape: CallShape) -> int:
        """`pair_width` of torch's function, for which keys and values are padded to one width."""
        return 2 * max(shape.head_dim, shape.value_dim)

    def flops(self, shape: CallShape) -> int:
        """Scores and the mix of values, for each pair that may be seen."""
        pairs = shape.num_pairs
        if self.window is not None:
            near = last_pairs(shape.query_len, self.window)
            near = near if shape.causal else 2 * near - shape.query_len
            pairs = shape.batch_size * shape.num_heads * near
        return 2 * pairs * self.pair_width(shape)

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, and the rest of the tiles that the diagonal or a window cuts."""
        width = self.fused_width(shape) if self.fused else self.pair_width(shape)
        return 2 * tile_pairs(shape, self.tile, self.window) * width

    def decode_flops(self, shape: CallShape) -> int:
        """One query meets the keys of the cache."""
        keys = min(shape.key_len, self.window or shape.key_len)
        pairs = replace(shape, query_len=1, key_len=keys, causal=False).num_pairs
        return 2 * pairs * self.pair_width(shape)
