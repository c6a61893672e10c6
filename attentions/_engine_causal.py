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

import torch
from torch import Tensor

from ._engine_forward import above_floor, floored_
from ._engine_kernel import Kernel, Sums
from ._engine_maps import Parts
from ._engine_products import add_product
from ._engine_threads import run_jobs
from ._engine_tiles import Job, like_in_memory, plan, room, store, tile_elements, widened
from .base import CallShape

_CHUNK = 64
"""Tokens whose pairs are written out: as many as D, where pairs and sums cost alike."""
_TILE = 512
"""Tokens of a tile."""


def _tiles(length: int) -> list[slice]:
    """Whole chunks, `_TILE` tokens at most, and at the end what fills no chunk."""
    whole = length // _CHUNK * _CHUNK
    tiles = [slice(t, min(t + _TILE, whole)) for t in range(0, whole, _TILE)]
    return tiles + ([slice(whole, length)] if whole < length else [])


class _Chunks:
    """A tile's queries, keys and values as (heads * chunks, chunk, ...), and the sums before each.

    Attributes:
        phi_q: parts of query features.
        phi_k: parts of key features.
        value: values.
        before: sums of all earlier keys, (heads * chunks, ...).
        after: sums once the tile's keys are in, (heads, ...).
    """

    def __init__(self, phi_q: Parts, phi_k: Parts, value: Tensor, past: Sums) -> None:
        self.num_heads, length, _ = value.shape
        self.num_chunks = max(1, length // _CHUNK)
        self.phi_q, self.phi_k = (tuple(self.cut(x) for x in xs) for xs in (phi_q, phi_k))
        self.value = self.cut(value)
        own = Sums(
            contexts=tuple(torch.bmm(self.value.transpose(1, 2), x) for x in self.phi_k),
            key_sums=tuple(x.sum(dim=1).unsqueeze(-1) for x in self.phi_k),
        )
        self.before, self.after = self.scan(own, past)

    def cut(self, x: Tensor) -> Tensor:
        """(heads, n, ...) -> (heads * chunks, chunk, ...)."""
        return x.reshape(self.num_heads * self.num_chunks, -1, x.shape[-1])

    def joined(self, x: Tensor) -> Tensor:
        """The inverse of `cut`."""
        return x.view(self.num_heads, -1, x.shape[-1])

    def scan(self, own: Sums, past: Sums, *, back: bool = False) -> tuple[Sums, Sums]:
        """For each chunk ``past`` plus the chunks before it, or after it; and ``past`` plus all.

        Taking a chunk off an inclusive sum would leave its rounding behind: the past would then
        depend on the future's bits.
        """
        before, after = [], []
        for each, start in zip(own.tensors(), past.tensors(), strict=True):
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
        return Sums.of(before), Sums.of(after)

    def weights(self) -> Tensor:
        """A: (heads * chunks, chunk, chunk)."""
        pairs = torch.bmm(self.phi_q[0], self.phi_k[0].transpose(1, 2))
        for phi_q, phi_k in zip(self.phi_q[1:], self.phi_k[1:], strict=True):
            add_product(pairs, phi_q, phi_k.transpose(1, 2))
        return pairs.tril_()

    def normaliser(self, weights: Tensor, kernel: Kernel) -> Tensor | None:
        """n: (heads * chunks, chunk, 1); None if nothing divides."""
        if kernel.eps is None:
            return None
        total = weights.sum(dim=-1, keepdim=True).add_(kernel.eps)
        for phi, key_sum in zip(self.phi_q, self.before.key_sums, strict=True):
            total.add_((phi * key_sum.transpose(1, 2)).sum(dim=-1, keepdim=True))
        return floored_(kernel, total)


def _as_one(parts: Parts) -> Parts:
    """Side by side: products of a chunk are small, and half as many cost less than the copy."""
    return parts if len(parts) == 1 else (torch.cat(parts, dim=-1),)


def _jobs(kernel: Kernel, x: Tensor) -> list[Job]:
    return plan(
        *x.shape[:3],
        num_features=kernel.num_features,
        joint_heads=kernel.joint_heads,
        num_threads=torch.get_num_threads(),
        split_tokens=False,
    )


def forward(
    kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, weights: Sequence[Tensor], *, keep: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output; and the sums before each tile, (B, H, tiles, ...), if asked to keep them."""
    out, jobs = like_in_memory(q, v.shape[-1]), _jobs(kernel, q)
    found = run_jobs(lambda job: _job_forward(kernel, job, q, k, v, weights, out), jobs)
    if not keep:
        return out, ()
    kept = tuple(x.new_empty(*q.shape[:2], *x.shape[1:]) for x in found[0].tensors())
    for job, sums in zip(jobs, found, strict=True):
        for whole, part in zip(kept, sums.tensors(), strict=True):
            whole[job.row, job.heads] = part
    return out, kept


def backward(
    kernel: Kernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    grad_out: Tensor,
) -> list[Tensor]:
    """Gradients of q, k, v and the weights."""
    grads = [torch.empty_like(x) for x in (q, k, v)]
    grad_weights = [torch.zeros_like(weight) for weight in weights]
    sums, jobs = Sums.of(kept), _jobs(kernel, q)
    found = run_jobs(
        lambda job: _job_backward(kernel, job, q, k, v, weights, sums, grad_out, grads), jobs
    )
    for job, d_weights in zip(jobs, found, strict=True):
        for total, part in zip(grad_weights, d_weights, strict=True):
            total[job.heads].add_(part)
    return [*grads, *grad_weights]


def _job_forward(
    kernel: Kernel,
    job: Job,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    out: Tensor,
) -> Sums:
    """Fill a job's heads of ``out``; returns the sums before each tile, (heads, tiles, ...)."""
    queries, keys, values, outputs = (job.of(x) for x in (q, k, v, out))
    mine = [weight[job.heads] for weight in weights]
    past: Sums | None = None
    kept: list[Sums] = []
    for tokens in _tiles(q.shape[2]):
        phi_q = _as_one(kernel.queries.features(widened(queries[:, tokens]), tokens, *mine))
        phi_k = _as_one(kernel.keys.features(widened(keys[:, tokens]), tokens, *mine))
        value = widened(values[:, tokens])
        if past is None:
            past = Sums.zeros((len(value),), value, phi_k)
        kept.append(past)
        chunks = _Chunks(phi_q, phi_k, value, past)
        pairs = chunks.weights()
        numerator = torch.bmm(pairs, chunks.value)
        for phi, context in zip(chunks.phi_q, chunks.before.contexts, strict=True):
            add_product(numerator, phi, context.transpose(1, 2))
        normaliser = chunks.normaliser(pairs, kernel)
        if normaliser is not None:
            numerator.mul_(normaliser.reciprocal_())
        outputs[:, tokens] = chunks.joined(numerator)
        past = chunks.after
    return Sums.of(
        [torch.stack(xs, dim=1) for xs in zip(*(s.tensors() for s in kept), strict=True)]
    )


def _job_backward(
    kernel: Kernel,
    job: Job,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    kept: Sums,
    grad_out: Tensor,
    grads: Sequence[Tensor],
) -> list[Tensor]:
    """Fill a job's heads of the gradients of q, k and v; returns those of the weights."""
    queries, keys, values, d_outputs = (job.of(x) for x in (q, k, v, grad_out))
    d_queries, d_keys, d_values = (job.of(x) for x in grads)
    mine = [weight[job.heads] for weight in weights]
    d_weights = [torch.zeros_like(weight) for weight in mine]
    future: Sums | None = None
    for index, tokens in reversed(list(enumerate(_tiles(q.shape[2])))):
        phi_q, pull_q = kernel.queries.linearised(widened(queries[:, tokens]), tokens, *mine)
        phi_k, pull_k = kernel.keys.linearised(widened(keys[:, tokens]), tokens, *mine)
        past = kept.at(job.row, job.heads, index)
        chunks = _Chunks(_as_one(phi_q), _as_one(phi_k), widened(values[:, tokens]), past)
        d_out = chunks.cut(widened(d_outputs[:, tokens]))
        d_phi_q, d_phi_k, d_value, future = _gradients(
            kernel, chunks, d_out, past.like_zeros() if future is None else future
        )
        store(chunks.joined(d_value), d_values[:, tokens])
        for pull, d_parts, target in ((pull_q, d_phi_q, d_queries), (pull_k, d_phi_k, d_keys)):
            d_x, *d_w = pull(chunks.joined(d_parts[0]).chunk(len(phi_q), dim=-1))
            store(d_x, target[:, tokens])
            for total, more in zip(d_weights, d_w, strict=True):
                total.add_(more)
    return d_weights


def _gradients(
    kernel: Kernel, chunks: _Chunks, d_out: Tensor, future: Sums
) -> tuple[list[Tensor], list[Tensor], Tensor, Sums]:
    """Of a tile's query features, key features and values; and the sums for earlier tiles.

    Args:
        kernel: for its normaliser.
        chunks: the tile.
        d_out: the gradient of its output.
        future: dS and dz, from later tiles.
    """
    pairs, before = chunks.weights(), chunks.before
    normaliser = chunks.normaliser(pairs, kernel)
    g = d_out if normaliser is None else d_out / normaliser
    d_pairs = torch.bmm(g, chunks.value.transpose(1, 2))
    d_phi_q = [torch.bmm(g, context) for context in before.contexts]
    c = g.new_zeros(*g.shape[:2], 1)
    if normaliser is not None:
        c = (pairs * d_pairs).sum(dim=-1, keepdim=True)
        for phi, d_phi in zip(chunks.phi_q, d_phi_q, strict=True):
            c.add_((phi * d_phi).sum(dim=-1, keepdim=True))
        c.div_(normaliser).neg_().mul_(above_floor(kernel, normaliser))
        d_pairs.add_(c)
        for d_phi, key_sum in zip(d_phi_q, before.key_sums, strict=True):
            d_phi.addcmul_(c, key_sum.transpose(1, 2))
    d_pairs.tril_()
    for d_phi, phi in zip(d_phi_q, chunks.phi_k, strict=True):
        add_product(d_phi, d_pairs, phi)

    after, past_next = chunks.scan(
        Sums(
            contexts=tuple(torch.bmm(g.transpose(1, 2), phi) for phi in chunks.phi_q),
            key_sums=tuple((phi * c).sum(dim=1).unsqueeze(-1) for phi in chunks.phi_q),
        ),
        future,
        back=True,
    )
    d_value = torch.bmm(pairs.transpose(1, 2), g)
    d_phi_k = []
    for index, phi in enumerate(chunks.phi_k):
        add_product(d_value, phi, after.contexts[index].transpose(1, 2))
        d_phi = torch.bmm(d_pairs.transpose(1, 2), chunks.phi_q[index])
        add_product(d_phi, chunks.value, after.contexts[index])
        d_phi_k.append(d_phi.add_(after.key_sums[index].transpose(1, 2)))
    return d_phi_q, d_phi_k, d_value, past_next


def causal_flops(shape: CallShape, num_features: int) -> int:
    """What the forward pass executes: whole chunks, with the hidden pairs within them."""
    whole_chunks, rest = divmod(shape.query_len, _CHUNK)
    pairs = shape.batch_size * shape.num_heads * (whole_chunks * _CHUNK**2 + rest**2)
    within = 2 * pairs * (num_features + shape.value_dim)
    return within + 4 * shape.num_tokens * num_features * shape.value_dim


def causal_elements(
    shape: CallShape, num_features: int, *, forward_maps: float, backward_maps: float | None
) -> int:
    """As `tile_elements`, with the sums before each chunk of a tile and those before each tile."""
    own = tile_elements(shape, num_features, forward_maps=forward_maps, backward_maps=backward_maps)
    heads = shape.batch_size * shape.num_heads
    at_once = torch.get_num_threads() * min(heads, max(1, room(num_features) // shape.query_len))
    chunks = max(1, min(shape.query_len, _TILE) // _CHUNK)
    copies = 2 if backward_maps is None else 5
    kept = len(_tiles(shape.query_len)) * heads
    return own + (kept + copies * at_once * chunks) * num_features * shape.value_dim
