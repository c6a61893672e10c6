"""The engine's causal form: query i reads keys 0..i.

Within a chunk the weights of pairs are written out and the later ones set to zero; earlier chunks
come in by their running sums. A tile holds several chunks, whose products are taken at once.

    A = tril(phi_q phi_k^T),  n = A 1 + phi_q z + eps,  out = (A V + phi_q S^T) / n

Forward, the sums before each tile are kept, one state per `_TILE` tokens. Backward, tiles are gone
through from the last to the first, with running sums of what later queries send back. With
g = dout / n and c = -(out . g), row by row,

    dA = tril(g V^T + c),  dphi_q = dA phi_k + g S + c z^T
    dphi_k = dA^T phi_q + V dS + dz^T,  dV = A^T g + phi_k dS^T
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ._engine_forward import above_floor, floored_
from ._engine_kernel import Kernel
from ._engine_maps import Parts
from ._engine_memory import in_large_pages, like_in_memory
from ._engine_products import add_product
from ._engine_tally import Tally
from ._engine_threads import Sharing, run_jobs, threads_sleep
from ._engine_tiles import (
    Job,
    add_to_heads,
    is_little,
    is_short,
    jobs_of,
    store,
    whole,
    whole_groups,
    widened,
)
from .base import CallShape

_CHUNK = 64
"""Tokens whose pairs are written out: as many as D, where pairs and sums cost alike."""
_TILE = 512
"""Most tokens of a tile of one head."""
_TOGETHER = 1024
"""Tokens of a tile, counted over its heads; forward twice as many with several threads."""


_Sums: TypeAlias = tuple[Tensor, Tensor]
"""Over keys: of v phi(k)^T, (..., E, F), and of phi(k), (..., F, 1)."""


def _tiles(length: int) -> list[slice]:
    """Whole chunks, `_TILE` tokens at most, and at the end what fills no chunk."""
    whole = length // _CHUNK * _CHUNK
    tiles = [slice(t, min(t + _TILE, whole)) for t in range(0, whole, _TILE)]
    return tiles + ([slice(whole, length)] if whole < length else [])


class _Chunks:
    """A tile's queries, keys and values as (heads * chunks, chunk, ...), and the sums before each.

    Attributes:
        phi_q: query features.
        phi_k: key features.
        value: values.
        before: sums of all earlier keys, (heads * chunks, ...).
        after: sums once the tile's keys are in, (heads, ...).
    """

    def __init__(self, phi_q: Tensor, phi_k: Tensor, value: Tensor, past: _Sums) -> None:
        self.num_heads, length, _ = value.shape
        self.num_chunks = max(1, length // _CHUNK)
        self.phi_q, self.phi_k, self.value = (self.cut(x) for x in (phi_q, phi_k, value))
        own = torch.bmm(self.value.transpose(1, 2), self.phi_k), _column_sum(self.phi_k)
        self.before, self.after = self.scan(own, past)

    def cut(self, x: Tensor) -> Tensor:
        """(heads, n, ...) -> (heads * chunks, chunk, ...)."""
        return x.reshape(self.num_heads * self.num_chunks, -1, x.shape[-1])

    def joined(self, x: Tensor) -> Tensor:
        """The inverse of `cut`."""
        return x.view(self.num_heads, -1, x.shape[-1])

    def scan(self, own: _Sums, past: _Sums, *, back: bool = False) -> tuple[_Sums, _Sums]:
        """For each chunk ``past`` plus the chunks before it, or after it; and ``past`` plus all.

        Taking a chunk off an inclusive sum would leave its rounding behind: the past would then
        depend on the future's bits.
        """
        before, after = [], []
        for each, start in zip(own, past, strict=True):
            by_chunk = each.view(self.num_heads, self.num_chunks, *each.shape[1:])
            sums = each.new_empty(self.num_heads, self.num_chunks + 1, *each.shape[1:])
            totals, terms = sums.unbind(1), by_chunk.unbind(1)
            if back:
                totals, terms = totals[::-1], terms[::-1]
            totals[0].copy_(start)
            for total, term, following in zip(totals[:-1], terms, totals[1:], strict=True):
                torch.add(total, term, out=following)
            before.append((sums[:, 1:] if back else sums[:, :-1]).flatten(0, 1))
            after.append(totals[-1].clone())  # a view would keep the sums of all chunks alive
        return (before[0], before[1]), (after[0], after[1])

    def weights(self) -> Tensor:
        """A: (heads * chunks, chunk, chunk)."""
        return torch.bmm(self.phi_q, self.phi_k.transpose(1, 2)).tril_()

    def normaliser(self, weights: Tensor, kernel: Kernel) -> Tensor | None:
        """n: (heads * chunks, chunk, 1); None if nothing divides."""
        if kernel.eps is None:
            return None
        total = weights.sum(dim=-1, keepdim=True).add_(kernel.eps)
        total.add_(_row_sum(self.phi_q * self.before[1].transpose(1, 2)))
        return floored_(kernel, total)


def _as_one(parts: Parts) -> Tensor:
    """Side by side: products of a chunk are small, and half as many cost less than the copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _row_sum(x: Tensor) -> Tensor:
    return x.sum(dim=-1, keepdim=True)


def _column_sum(x: Tensor) -> Tensor:
    return x.sum(dim=1).unsqueeze(-1)


def _heads_together(num_heads: int, length: int, *, backward: bool) -> int:
    # Backward, four times as many results are alive, too many where each thread has its own.
    several = torch.get_num_threads() > 1 and not (backward and threads_sleep())
    most = 2 * _TOGETHER if several and not is_short(length) else _TOGETHER
    return whole_groups(most // min(length, _TILE), num_heads)


def _sharing(kernel: Kernel, q: Tensor) -> Sharing:
    """Never the operators: those of a chunk are small.

    What meets within a chunk is as much work again as the features are.
    """
    little = is_little(*q.shape[:3], num_features=2 * kernel.num_features)
    return Sharing.NONE if little else Sharing.JOBS


def _jobs(x: Tensor, *, backward: bool = False) -> list[Job]:
    batch_size, num_heads, length = x.shape[:3]
    heads = _heads_together(num_heads, length, backward=backward)
    return jobs_of(batch_size, num_heads, length, heads=heads, tile_len=_TILE)


def forward(
    kernel: Kernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    tally: Tally,
    *,
    keep: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output; and the sums before each tile, (B, H, tiles, ...), if asked to keep them."""
    out, jobs = like_in_memory(q, v.shape[-1]), _jobs(q)
    found = run_jobs(
        tally.of(lambda job: _job_forward(kernel, job, q, k, v, weights, out, tally)),
        jobs,
        sharing=_sharing(kernel, q),
    )
    return out, tuple(whole(found, jobs, q)) if keep else ()


def backward(
    kernel: Kernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    grad_out: Tensor,
    tally: Tally,
) -> list[Tensor]:
    """Gradients of q, k, v and the weights."""
    grads = [in_large_pages(torch.empty_like(x)) for x in (q, k, v)]
    grad_weights = [torch.zeros_like(weight) for weight in weights]
    jobs = _jobs(q, backward=True)
    found = run_jobs(
        tally.of(
            lambda job: _job_backward(kernel, job, q, k, v, weights, kept, grad_out, grads, tally)
        ),
        jobs,
        sharing=_sharing(kernel, q),
    )
    for job, d_weights in zip(jobs, found, strict=True):
        add_to_heads(grad_weights, job, d_weights)
    return [*grads, *grad_weights]


def _job_forward(
    kernel: Kernel,
    job: Job,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    out: Tensor,
    tally: Tally,
) -> _Sums:
    """Fill a job's heads of ``out``; returns the sums before each tile, (heads, tiles, ...)."""
    queries, keys, values, outputs = (job.of(x) for x in (q, k, v, out))
    mine = [weight[job.heads] for weight in weights]
    past: _Sums | None = None
    kept: list[_Sums] = []
    for tokens in _tiles(q.shape[2]):
        phi_q = _as_one(kernel.queries.features(widened(queries[:, tokens]), tokens, *mine))
        phi_k = _as_one(kernel.keys.features(widened(keys[:, tokens]), tokens, *mine))
        value = widened(values[:, tokens])
        if past is None:
            num_heads, _, width = value.shape
            sizes = (num_heads, width, phi_k.shape[-1]), (num_heads, phi_k.shape[-1], 1)
            past = value.new_zeros(sizes[0]), value.new_zeros(sizes[1])
        kept.append(past)
        chunks = _Chunks(phi_q, phi_k, value, past)
        pairs = chunks.weights()
        numerator = torch.bmm(pairs, chunks.value)
        add_product(numerator, chunks.phi_q, chunks.before[0].transpose(1, 2))
        normaliser = chunks.normaliser(pairs, kernel)
        if normaliser is not None:
            tally.add(normaliser)  # of an infinite one, zeros would come out
            numerator.mul_(normaliser.reciprocal_())
        tally.add(numerator)
        outputs[:, tokens] = chunks.joined(numerator)
        past = chunks.after
    contexts, key_sums = zip(*kept, strict=True)
    return torch.stack(contexts, dim=1), torch.stack(key_sums, dim=1)


def _job_backward(
    kernel: Kernel,
    job: Job,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    grad_out: Tensor,
    grads: Sequence[Tensor],
    tally: Tally,
) -> list[Tensor]:
    """Fill a job's heads of the gradients of q, k and v; returns those of the weights."""
    queries, keys, values, d_outputs = (job.of(x) for x in (q, k, v, grad_out))
    d_queries, d_keys, d_values = (job.of(x) for x in grads)
    mine = [weight[job.heads] for weight in weights]
    d_weights = [torch.zeros_like(weight) for weight in mine]
    future: _Sums | None = None
    for index, tokens in reversed(list(enumerate(_tiles(q.shape[2])))):
        phi_q, pull_q = kernel.queries.linearised(widened(queries[:, tokens]), tokens, *mine)
        phi_k, pull_k = kernel.keys.linearised(widened(keys[:, tokens]), tokens, *mine)
        past = kept[0][job.row, job.heads, index], kept[1][job.row, job.heads, index]
        chunks = _Chunks(_as_one(phi_q), _as_one(phi_k), widened(values[:, tokens]), past)
        d_out = chunks.cut(widened(d_outputs[:, tokens]))
        d_phi_q, d_phi_k, d_value, future = _gradients(
            kernel, chunks, d_out, future or (torch.zeros_like(past[0]), torch.zeros_like(past[1]))
        )
        tally.add(d_value)
        store(chunks.joined(d_value), d_values[:, tokens])
        for pull, d_parts, target in ((pull_q, d_phi_q, d_queries), (pull_k, d_phi_k, d_keys)):
            d_x, *d_w = pull(chunks.joined(d_parts).chunk(len(phi_q), dim=-1))
            tally.add(d_x)
            store(d_x, target[:, tokens])
            for total, more in zip(d_weights, d_w, strict=True):
                tally.add(more)
                total.add_(more)
    return d_weights


def _gradients(
    kernel: Kernel, chunks: _Chunks, d_out: Tensor, future: _Sums
) -> tuple[Tensor, Tensor, Tensor, _Sums]:
    """Of a tile's query features, key features and values; and the sums for earlier tiles.

    Args:
        kernel: for its normaliser.
        chunks: the tile.
        d_out: the gradient of its output.
        future: dS and dz, from later tiles.
    """
    pairs, (context, key_sum) = chunks.weights(), chunks.before
    normaliser = chunks.normaliser(pairs, kernel)
    g = d_out if normaliser is None else d_out / normaliser
    d_pairs = torch.bmm(g, chunks.value.transpose(1, 2))
    d_phi_q = torch.bmm(g, context)
    c = g.new_zeros(*g.shape[:2], 1)
    if normaliser is not None:
        c = _row_sum(pairs * d_pairs).add_(_row_sum(chunks.phi_q * d_phi_q))
        c.div_(normaliser).neg_()
        moves = above_floor(kernel, normaliser)
        if moves is not None:
            c.mul_(moves)
        d_pairs.add_(c)
        d_phi_q.addcmul_(c, key_sum.transpose(1, 2))
    d_pairs.tril_()
    add_product(d_phi_q, d_pairs, chunks.phi_k)

    own = torch.bmm(g.transpose(1, 2), chunks.phi_q), _column_sum(chunks.phi_q * c)
    (d_context, d_key_sum), past_next = chunks.scan(own, future, back=True)
    d_value = torch.bmm(pairs.transpose(1, 2), g)
    add_product(d_value, chunks.phi_k, d_context.transpose(1, 2))
    d_phi_k = torch.bmm(d_pairs.transpose(1, 2), chunks.phi_q)
    add_product(d_phi_k, chunks.value, d_context)
    return d_phi_q, d_phi_k.add_(d_key_sum.transpose(1, 2)), d_value, past_next


def causal_flops(shape: CallShape, num_features: int) -> int:
    """What the forward pass executes: whole chunks, with the hidden pairs within them."""
    whole_chunks, rest = divmod(shape.query_len, _CHUNK)
    pairs = shape.batch_size * shape.num_heads * (whole_chunks * _CHUNK**2 + rest**2)
    within = 2 * pairs * (num_features + shape.value_dim)
    return within + 4 * shape.num_tokens * num_features * shape.value_dim
