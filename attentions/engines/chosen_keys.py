"""Softmax over the keys with the largest scores, which are gathered for some queries at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from ..inputs import is_followed, is_transformed
from ..maths.pairs.tiles import Tiling, scaled
from ..maths.shared_heads import for_every_query_head
from ..precision import backward_without_autocast
from .tiled_pairs import SoftmaxWeights, plain_gradients, plain_pairs


def best_keys(
    q: Tensor, k: Tensor, v: Tensor, most: int, tiling: Tiling, allowed: Tensor | None
) -> Tensor:
    """out_i = softmax over the ``most`` keys with the largest q_i . k_j / sqrt(D) that it sees.

    Scores are float64, so that which keys are the largest does not depend on the order of a sum,
    and are forgotten row of tiles by row of tiles: memory is linear in the number of tokens, but
    under transforms and for gradients that are to be differentiated again. The choice has no
    gradient.

    Args:
        q: (B, H, N, D).
        k: (B, H_kv, M, D).
        v: (B, H_kv, M, E).
        most: keys of a query; it sees all if there are no more, and one that sees none gets zeros.
        tiling: of the call.
        allowed: masks of the call, broadcasting to (B, H, N, M); True keeps.
    """
    with torch.no_grad():
        chosen, seen = _choose(q, k, most, tiling, allowed)
    # The choice follows masks as well, which may be mapped over.
    if not torch.compiler.is_compiling() and (
        any(map(is_transformed, (q, k, v))) or is_followed(chosen)
    ):
        return _under_mask(q, k, v, chosen, seen, tiling)
    out: Tensor = _AttendToChosen.apply(q, k, v, chosen, seen, tiling)  # type: ignore[no-untyped-call]
    return out


def _under_mask(
    q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, seen: Tensor, tiling: Tiling
) -> Tensor:
    """Softmax over the chosen keys, of all pairs under a mask."""
    nothing = torch.zeros_like(chosen[..., :1]).expand(*chosen.shape[:3], k.shape[2])
    allowed = nothing.scatter_add(-1, chosen, seen.long()) > 0  # the place of none is 0
    given = (None, None, None, allowed, None, 1, tiling, SoftmaxWeights())
    return plain_pairs(q, k, v, *given)  # type: ignore[arg-type]


def scored_pairs(tiling: Tiling) -> int:
    """Pairs that `best_keys` scores, of one head."""
    return sum((rows.stop - rows.start) * _columns(rows, tiling).stop for rows in tiling.rows())


def _columns(rows: slice, tiling: Tiling) -> slice:
    """Keys that some of these queries may see."""
    return slice(0, tiling.past + rows.stop if tiling.causal else tiling.key_len)


def _choose(
    q: Tensor, k: Tensor, most: int, tiling: Tiling, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The places of the largest scores, and whether each is one of a visible key.

    Both (B, H, N, most), or fewer if there are fewer keys.
    """
    most = min(most, tiling.key_len)
    keys = for_every_query_head(k.double(), q.shape[1]).mT
    chosen, seen = [], []
    for rows in tiling.rows():
        columns = _columns(rows, tiling)
        scores = q[:, :, rows].double() @ keys[..., columns]
        hidden = tiling.hidden(rows, columns, allowed, q.device)
        if hidden is not None:
            scores = scores.masked_fill(hidden, -torch.inf)
        there = min(most, columns.stop)
        values, places = scores.topk(there, dim=-1, sorted=False)
        missing = (0, most - there)
        chosen.append(functional.pad(places, missing))
        seen.append(functional.pad(values > -torch.inf, missing))
    return torch.cat(chosen, dim=2), torch.cat(seen, dim=2)


class _AttendToChosen(Function):
    """(q, k, v, chosen, seen, tiling) -> output; gradients gather keys and values again."""

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, seen: Tensor, tiling: Tiling
    ) -> Tensor:
        q = scaled(q)
        outputs = []
        for rows in tiling.rows():
            places = _flat(chosen[:, :, rows], k)
            keys, values = _gather(k, places), _gather(v, places)  # (B, H, n, most, D)
            weights = _weights(q[:, :, rows], keys, seen[:, :, rows])
            outputs.append((weights @ values).squeeze(-2))
        return torch.cat(outputs, dim=2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.tiling = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Any, None]:
        """None of them is mapped over, or they would not be here."""
        return _AttendToChosen.apply(*inputs), None  # type: ignore[no-untyped-call]

    @staticmethod
    @backward_without_autocast
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, chosen, seen = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            plain = partial(_under_mask, chosen=chosen, seen=seen, tiling=ctx.tiling)
            grads = plain_gradients(plain, (q, k, v), ctx.needs_input_grad[:3], grad_out)
            return *grads, None, None, None
        q = scaled(q)
        grad_q = torch.zeros_like(q)
        grad_k, grad_v = (torch.zeros_like(x).flatten(0, 2) for x in (k, v))  # (B * H_kv * M, D)
        for rows in ctx.tiling.rows():
            places = _flat(chosen[:, :, rows], k)
            keys, values = _gather(k, places), _gather(v, places)
            weights = _weights(q[:, :, rows], keys, seen[:, :, rows])  # (B, H, n, 1, most)
            grad_rows = grad_out[:, :, rows, None]  # (B, H, n, 1, E)
            grad_weights = grad_rows @ values.transpose(-2, -1)
            mean = (grad_weights * weights).sum(dim=-1, keepdim=True)
            grad_scores = (grad_weights - mean) * weights
            grad_q[:, :, rows] = (grad_scores @ keys).squeeze(-2)
            to_keys = grad_scores.transpose(-2, -1) * q[:, :, rows, None]  # (B, H, n, most, D)
            to_values = weights.transpose(-2, -1) * grad_rows
            grad_k.index_add_(0, places.flatten(), to_keys.flatten(0, -2))
            grad_v.index_add_(0, places.flatten(), to_values.flatten(0, -2))
        return scaled(grad_q), grad_k.view_as(k), grad_v.view_as(v), None, None, None


def _flat(chosen: Tensor, k: Tensor) -> Tensor:
    """Places among the keys of all batch rows and heads, from places among one head's."""
    batch_size, num_heads = chosen.shape[:2]
    head = torch.arange(batch_size * num_heads, device=chosen.device) // (num_heads // k.shape[1])
    return chosen + (head * k.shape[2]).view(batch_size, num_heads, 1, 1)


def _gather(x: Tensor, places: Tensor) -> Tensor:
    """(B, H_kv, M, D), (B, H, n, most) -> (B, H, n, most, D)."""
    rows = x.flatten(0, 2).index_select(0, places.flatten())
    return rows.view(*places.shape, x.shape[-1])


def _weights(q: Tensor, keys: Tensor, seen: Tensor) -> Tensor:
    """(B, H, n, D), (B, H, n, most, D), (B, H, n, most) -> (B, H, n, 1, most)."""
    scores = q.unsqueeze(-2) @ keys.transpose(-2, -1)
    hidden = ~seen.unsqueeze(-2)
    # The lowest finite number, not minus infinity: a query may see none at all.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(hidden, lowest).softmax(dim=-1).masked_fill(hidden, 0.0)
