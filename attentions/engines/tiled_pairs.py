"""Weighted values tile by tile, forward and backward: memory is linear in the number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.autograd import Function

from ..inputs import is_followed, is_transformed
from ..maths.pairs.tiles import Tiling, scaled
from ..maths.shared_heads import for_every_query_head
from ..precision import backward_without_autocast


class Weights(Protocol):
    """How the scores of a tile become weights; see `PairCore`."""

    softmax: ClassVar[bool]

    @property
    def has_slope(self) -> bool:
        """Whether `pullback` does without autograd."""
        ...

    def weights(self, scores: Tensor) -> Tensor:
        """Weights of some pairs from their scores, entry by entry."""
        ...

    def pullback(self, scores: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Weights of a tile, and what turns their gradients into those of its scores."""
        ...


class SoftmaxWeights:
    """Weights that `tiled_pairs` finds by itself: exponentials over their sum."""

    softmax: ClassVar[bool] = True
    has_slope: ClassVar[bool] = True


def tiled_pairs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    how: Weights,
    tiling: Tiling,
    *,
    allowed: Tensor | None = None,
    chosen: Tensor | None = None,
    block: int = 1,
    sums: tuple[Tensor, Tensor] | None = None,
    sink: Tensor | None = None,
) -> Tensor:
    """out_i = sum_j w(q_i . k_j / sqrt(D) + G_i - G_j) v_j.

    Args:
        q: (B, H, N, D).
        k: (B, H_kv, M, D); a head of keys is copied for its queries a tile at a time.
        v: (B, H_kv, M, E).
        how: from scores to weights.
        tiling: the tiles.
        allowed: broadcasts to (B, H, N, M), True keeps; a query that keeps nothing gets zeros.
        chosen: blocks of keys that a query may see, broadcasts to (B, H, N, blocks).
        block: keys of such a block.
        sums: G of the queries, (B, H, N), and of the keys, (B, H, M), float64.
        sink: a score per head that takes its share of a softmax and has no value, (H,).

    All pairs are written out where tiles have no derivative: under transforms such as
    `torch.func.vmap`, be it of masks alone, for gradients that are to be differentiated again,
    where ``how`` reads learned tensors itself, and in compiled code where it needs autograd.
    """
    rows, columns = sums or (None, None)
    tensors = (q, k, v, rows, columns, sink)
    if _needs_autograd(how, q) or are_transformed(tensors, (allowed, chosen)):
        return plain_pairs(*tensors, allowed, chosen, block, tiling, how)
    if rows is columns and rows is not None:
        columns = rows.view_as(rows)  # Dynamo refuses one tensor passed twice
    given = (q, k, v, rows, columns, sink, allowed, chosen, block, tiling, how)
    out: Tensor = _Tiled.apply(*given)[0]  # type: ignore[no-untyped-call]
    return out


def are_transformed(tensors: Sequence[Tensor | None], masks: Sequence[Tensor | None] = ()) -> bool:
    """Whether a transform follows some of them; a mask made under one is not such a case."""
    return not torch.compiler.is_compiling() and (
        any(x is not None and is_transformed(x) for x in tensors)
        or any(x is not None and is_followed(x) for x in masks)
    )


def _needs_autograd(how: Weights, q: Tensor) -> bool:
    """Whether weights have derivatives of their own, or one that no compiler traces."""
    is_compiled = torch.compiler.is_compiling()
    if how.softmax or (is_compiled and not torch.is_grad_enabled()):
        return False
    if is_compiled and not how.has_slope:
        return True
    found = how.weights(q.new_zeros(1, q.shape[1], 1, 1))
    return found.requires_grad or (not is_compiled and is_transformed(found))


def plain_pairs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sums: Tensor | None,
    key_sums: Tensor | None,
    sink: Tensor | None,
    allowed: Tensor | None,
    chosen: Tensor | None,
    block: int,
    tiling: Tiling,
    how: Weights,
) -> Tensor:
    """`tiled_pairs` as one tile of all pairs, by operators that can be transformed."""
    k, v = (for_every_query_head(x, q.shape[1]) for x in (k, v))
    rows, columns = slice(0, tiling.query_len), slice(0, tiling.key_len)
    scores = scaled(q) @ k.mT
    if sums is not None and key_sums is not None:
        scores = scores + (sums[..., None] - key_sums[..., None, :]).to(scores.dtype)
    hidden = _hidden(tiling, rows, columns, allowed, chosen, block, q.device)
    if hidden is None:
        hidden = torch.zeros(1, 1, dtype=torch.bool, device=q.device)
    if not how.softmax:
        return how.weights(scores.masked_fill(hidden, 0.0)).masked_fill(hidden, 0.0) @ v
    # The lowest finite number, not minus infinity: a query may see nothing.
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    if sink is not None:
        beside = sink.to(scores.dtype)[:, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat((scores, beside), dim=-1)
    weights = scores.softmax(dim=-1)[..., : tiling.key_len]
    return weights.masked_fill(hidden, 0.0) @ v


def plain_gradients(
    plain: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
    grad_out: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``plain(*inputs)`` that can be differentiated in turn."""
    # Views: the same tensor may be both q and k, and each has a gradient of its own.
    separate = [None if x is None else x.view_as(x) for x in inputs]
    chosen = [x for x, needed in zip(separate, wanted, strict=True) if needed and x is not None]
    out = plain(*separate)
    found = iter(torch.autograd.grad(out, chosen, grad_out, create_graph=True, allow_unused=True))
    return tuple(
        next(found) if needed and x is not None else None
        for x, needed in zip(separate, wanted, strict=True)
    )


class _Tiled(Function):
    """(q, k, v, sums of queries and keys, sink, masks, tiling, how) -> output, peaks, 1 / sums.

    The largest score and the sum of a softmax are kept apart and not as a logarithm: where scores
    pass 2^24, the sum would be rounded away.
    """

    @staticmethod
    def forward(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        sums: Tensor | None,
        key_sums: Tensor | None,
        sink: Tensor | None,
        allowed: Tensor | None,
        chosen: Tensor | None,
        block: int,
        tiling: Tiling,
        how: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        q, k, v = scaled(q), k.contiguous(), v.contiguous()
        heads = q.shape[1]
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        peaks = inverses = None
        if how.softmax:
            peaks, inverses = (q.new_empty(*q.shape[:-1], 1) for _ in range(2))
        for rows in tiling.rows():
            gathered = torch.zeros_like(out[:, :, rows])
            peak = q.new_full((*gathered.shape[:-1], 1), -torch.inf)
            total = torch.zeros_like(peak)
            if sink is not None:
                peak = sink.to(q.dtype)[:, None, None].expand_as(peak)
                total = torch.ones_like(total)
            for columns in tiling.columns(rows):
                keys, values = (for_every_query_head(x[:, :, columns], heads) for x in (k, v))
                scores = q[:, :, rows] @ keys.mT
                _add_decay(scores, sums, key_sums, rows, columns, tiling.past)
                hidden = _hidden(tiling, rows, columns, allowed, chosen, block, q.device)
                if not how.softmax:
                    weights = how.weights(scores)
                    weights = weights if hidden is None else weights.masked_fill_(hidden, 0.0)
                    gathered += weights @ values
                    continue
                if hidden is not None:
                    scores.masked_fill_(hidden, -torch.inf)
                new_peak = torch.maximum(peak, scores.amax(dim=-1, keepdim=True))
                # Where nothing was met yet, 0 takes the place of minus infinity: both
                # exponentials are then zero, and not those of a difference of infinities.
                finite_peak = new_peak.masked_fill(new_peak == -torch.inf, 0.0)
                weights = scores.sub_(finite_peak).exp_()
                fade = (peak - finite_peak).exp_()
                total = total.mul_(fade).add_(weights.sum(dim=-1, keepdim=True))
                gathered.mul_(fade).add_(weights @ values)
                peak = new_peak
            if peaks is not None and inverses is not None:
                unseen = total == 0
                # Plus infinity makes all weights zero when they are computed again.
                peaks[:, :, rows] = peak.masked_fill(unseen, torch.inf)
                total = total.masked_fill(unseen, 1.0)
                inverses[:, :, rows] = total.reciprocal()
                gathered.div_(total)
            out[:, :, rows] = gathered
        return out, peaks, inverses

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        *tensors, ctx.block, ctx.tiling, ctx.how = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.mark_non_differentiable(*(x for x in output[1:] if x is not None))

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Any, None]:
        """None of them is mapped over, or they would not be here."""
        return _Tiled.apply(*inputs), None  # type: ignore[no-untyped-call]

    @staticmethod
    @backward_without_autocast
    def backward(ctx: Any, grad_out: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        q, k, v, sums, key_sums, sink, allowed, chosen, out, peaks, inverses = ctx.saved_tensors
        tiling, how = ctx.tiling, ctx.how
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            masks = {"allowed": allowed, "chosen": chosen, "block": ctx.block}
            plain = partial(plain_pairs, **masks, tiling=tiling, how=how)
            tensors = (q, k, v, sums, key_sums, sink)
            grads = plain_gradients(plain, tensors, ctx.needs_input_grad[:6], grad_out)
            return *grads, None, None, None, None, None
        q, k, v, grad_out = scaled(q), k.contiguous(), v.contiguous(), grad_out.contiguous()
        heads, kv_heads = q.shape[1], k.shape[1]
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q, k, v))
        grad_sums = grad_key_sums = grad_sink = mean = None
        if sums is not None:
            grad_sums, grad_key_sums = torch.zeros_like(sums), torch.zeros_like(key_sums)
        if how.softmax:
            # Weights are exp(s - m) / l; the division is done once per query and not per pair.
            grad_out = grad_out * inverses
            # sum_j w_ij (g_i . v_j) = g_i . o_i, which the gradient of a softmax takes off.
            mean = (grad_out * out).sum(dim=-1, keepdim=True)
        for rows in tiling.rows():
            queries, grad_rows = q[:, :, rows], grad_out[:, :, rows]
            for columns in tiling.columns(rows):
                keys, values = (for_every_query_head(x[:, :, columns], heads) for x in (k, v))
                scores = queries @ keys.mT
                _add_decay(scores, sums, key_sums, rows, columns, tiling.past)
                hidden = _hidden(tiling, rows, columns, allowed, chosen, ctx.block, q.device)
                grad_weights = grad_rows @ values.mT
                if mean is not None:
                    if hidden is not None:
                        scores.masked_fill_(hidden, -torch.inf)
                    # Above the peak only if a product is rounded otherwise than in `forward`.
                    # Large scores lie so far apart that the exponential would then be infinite.
                    weights = scores.sub_(peaks[:, :, rows]).clamp_(max=0.0).exp_()
                    grad_v[:, :, columns] += _per_kv_head(weights.mT @ grad_rows, kv_heads)
                    grad_scores = grad_weights.sub_(mean[:, :, rows]).mul_(weights)
                else:
                    weights, pull = how.pullback(scores)
                    weights = weights if hidden is None else weights.masked_fill_(hidden, 0.0)
                    grad_v[:, :, columns] += _per_kv_head(weights.mT @ grad_rows, kv_heads)
                    grad_scores = pull(grad_weights)
                    if hidden is not None:
                        grad_scores = grad_scores.masked_fill_(hidden, 0.0)
                grad_q[:, :, rows] += grad_scores @ keys
                grad_k[:, :, columns] += _per_kv_head(grad_scores.mT @ queries, kv_heads)
                if grad_sums is not None and grad_key_sums is not None:
                    grad_sums[:, :, rows] += grad_scores.sum(dim=-1)
                    grad_key_sums[:, :, columns] -= grad_scores.sum(dim=-2)
        if sink is not None and mean is not None:
            share = (sink.to(q.dtype)[:, None, None] - peaks).exp_()
            grad_sink = -(share * mean).sum(dim=(0, 2, 3)).to(sink.dtype)
        grads = (scaled(grad_q), grad_k, grad_v, grad_sums, grad_key_sums, grad_sink)
        return *grads, None, None, None, None, None


def _hidden(
    tiling: Tiling,
    rows: slice,
    columns: slice,
    allowed: Tensor | None,
    chosen: Tensor | None,
    block: int,
    device: torch.device,
) -> Tensor | None:
    """True for the pairs of a tile to hide, or None if there are none."""
    hidden = tiling.hidden(rows, columns, allowed, device)
    if chosen is None:
        return hidden
    of_keys = torch.arange(columns.start, columns.stop, device=device) // block
    others = ~chosen[:, :, rows].index_select(-1, of_keys)
    return others if hidden is None else hidden | others


def _add_decay(
    scores: Tensor,
    sums: Tensor | None,
    key_sums: Tensor | None,
    rows: slice,
    columns: slice,
    past: int,
) -> None:
    """Add G_i - G_j to the scores of a tile.

    Differences of long sums are small. Of earlier tokens both parts, from the first query's place,
    are decays and add up without loss; where a tile holds its own diagonal they are taken pair by
    pair in float64.
    """
    if sums is None or key_sums is None:
        return
    of_rows, of_columns = sums[:, :, rows, None], key_sums[:, :, None, columns]
    if columns.stop <= past + rows.start:
        start = sums[:, :, rows.start, None, None]
        scores += (of_rows - start).to(scores.dtype)
        scores += (start - of_columns).to(scores.dtype)
    else:
        scores += (of_rows - of_columns).to(scores.dtype)


def _per_kv_head(grad: Tensor, kv_heads: int) -> Tensor:
    """Sum what the queries of a group give to their keys, (B, H, M, D) -> (B, H_kv, M, D)."""
    return grad if grad.shape[1] == kv_heads else grad.unflatten(1, (kv_heads, -1)).sum(dim=2)
