"""Kernel attention in which query i sees keys 0..i, tile by tile, with its backward pass.

A tile is cut into chunks. Within a chunk the weights of pairs are written out and the later ones
set to zero; earlier chunks come in by their running sums S and z.

    A = tril(phi_q phi_k^T),  n = A 1 + phi_q z + eps,  out = (A V + phi_q S) / n

The sums before each tile are kept. Backward, tiles are gone through from the last to the first,
with running sums dS and dz of what later queries send back. With g = dout / n and
c = -(out . g), row by row,

    dA = tril(g V^T + c),  dphi_q = dA phi_k + g S^T + c z^T
    dphi_k = dA^T phi_q + V dS^T + dz^T,  dV = A^T g + phi_k dS
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base import CallShape
from .maps import Call, Parts
from .tiles import add_product, groups, like, store, widened

CHUNK = 64
"""Tokens whose pairs are written out: as many as D, where pairs and sums cost the same."""


def _tiles(length: int, size: int) -> list[slice]:
    """Whole chunks, ``size`` tokens or fewer, and at the end what fills no chunk."""
    whole, size = length // CHUNK * CHUNK, max(CHUNK, size // CHUNK * CHUNK)
    tiles = [slice(start, min(start + size, whole)) for start in range(0, whole, size)]
    return tiles + ([slice(whole, length)] if whole < length else [])


def forward(
    call: Call, q: Tensor, k: Tensor, v: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output; and S and z before each tile of each group."""
    out = like(q, v.shape[-1])
    kept: list[Tensor] = []
    cut, size = groups(call, q, q.shape[2])
    for group in cut:
        mine = group.weights(weights)
        queries, keys, values, target = group.of(q, k, v, out)
        past = None
        for tokens in _tiles(q.shape[2], size):
            phi_q = call.queries(widened(queries[:, :, tokens]), mine, tokens)
            phi_k = call.keys(widened(keys[:, :, tokens]), mine, tokens)
            chunks = _Chunks.of(phi_q, phi_k, widened(values[:, :, tokens]))
            if past is None:
                past = chunks.no_sums()
            kept += past
            before, past = chunks.scan(chunks.key_sums(), past)
            pairs = chunks.pairs()
            found = torch.bmm(pairs, chunks.v)
            add_product(found, chunks.phi_q, before[0])
            n = chunks.normaliser(call, pairs, before)
            place = target[:, :, tokens]
            place.copy_((found if n is None else found.mul_(n.reciprocal_())).view(place.shape))
    return out, tuple(kept)


def backward(
    call: Call,
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
    cut, size = groups(call, q, q.shape[2])
    tiles = _tiles(q.shape[2], size)
    for index, group in enumerate(cut):
        mine, d_weights = group.weights(weights), group.weights(grad_weights)
        queries, keys, values, d_out = group.of(q, k, v, grad_out)
        d_queries, d_keys, d_values = group.of(*grads)
        future = None
        for number, tokens in reversed(list(enumerate(tiles))):
            phi_q, pull_q = call.queries.linearised(widened(queries[:, :, tokens]), mine, tokens)
            phi_k, pull_k = call.keys.linearised(widened(keys[:, :, tokens]), mine, tokens)
            chunks = _Chunks.of(phi_q, phi_k, widened(values[:, :, tokens]))
            place = 2 * (index * len(tiles) + number)
            before, _ = chunks.scan(chunks.key_sums(), (kept[place], kept[place + 1]))
            d_phi_q, d_phi_k, d_v, future = _gradients(
                call, chunks, before, chunks.cut(widened(d_out[:, :, tokens])), future
            )
            store(d_v, d_values[:, :, tokens])
            sides = ((pull_q, d_phi_q, phi_q, d_queries), (pull_k, d_phi_k, phi_k, d_keys))
            for pull, d_joined, phi, target in sides:
                d_phi = torch.unflatten(
                    d_joined.view(-1, phi[0].shape[2], d_joined.shape[-1]), 0, phi[0].shape[:2]
                )
                d_x, *found = pull(*d_phi.split([part.shape[-1] for part in phi], dim=-1))
                store(d_x, target[:, :, tokens])
                for total, more in zip(d_weights, found, strict=False):
                    total.add_(more)
    return [*grads, *grad_weights]


def _gradients(
    call: Call,
    chunks: _Chunks,
    before: tuple[Tensor, Tensor],
    d_out: Tensor,
    future: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Of a tile's query features, key features and values; and dS and dz for earlier tiles."""
    pairs, (context, key_sum) = chunks.pairs(), before
    n = chunks.normaliser(call, pairs, before)
    g = d_out if n is None else d_out * n.reciprocal()
    d_pairs = torch.bmm(g, chunks.v.transpose(1, 2))
    d_phi_q = torch.bmm(g, context.transpose(1, 2))
    c = g.new_zeros(*g.shape[:2], 1)
    if n is not None:
        c = (pairs * d_pairs).sum(dim=-1, keepdim=True)
        c.add_((chunks.phi_q * d_phi_q).sum(dim=-1, keepdim=True)).div_(n).neg_()
        if call.least:
            c.mul_(n > call.least)
        d_pairs.add_(c)
        d_phi_q.addcmul_(c, key_sum)
    d_pairs.tril_()
    add_product(d_phi_q, d_pairs, chunks.phi_k)

    own = torch.bmm(chunks.phi_q.transpose(1, 2), g), (chunks.phi_q * c).sum(dim=1, keepdim=True)
    after = chunks.no_sums() if future is None else future
    (d_context, d_key_sum), after = chunks.scan(own, after, back=True)
    d_v = torch.bmm(pairs.transpose(1, 2), g)
    add_product(d_v, chunks.phi_k, d_context)
    d_phi_k = torch.bmm(d_pairs.transpose(1, 2), chunks.phi_q)
    add_product(d_phi_k, chunks.v, d_context.transpose(1, 2))
    return d_phi_q, d_phi_k.add_(d_key_sum), d_v, after


@dataclass(frozen=True)
class _Chunks:
    """A tile's tokens as (groups * chunks, chunk, ...).

    Attributes:
        num_groups: rows * heads.
        phi_q: query features, the parts side by side: products of a chunk are small, and half as
            many cost less than the copy.
        phi_k: key features likewise.
        v: values.
    """

    num_groups: int
    phi_q: Tensor
    phi_k: Tensor
    v: Tensor

    @classmethod
    def of(cls, phi_q: Parts, phi_k: Parts, v: Tensor) -> _Chunks:
        joined = (part[0] if len(part) == 1 else torch.cat(part, dim=-1) for part in (phi_q, phi_k))
        return cls(v.shape[0] * v.shape[1], *(cls.cut(x) for x in (*joined, v)))

    @staticmethod
    def cut(x: Tensor) -> Tensor:
        """(rows, heads, n, ...) -> (groups * chunks, chunk, ...)."""
        return x.reshape(-1, CHUNK if x.shape[2] % CHUNK == 0 else x.shape[2], x.shape[-1])

    def pairs(self) -> Tensor:
        """A, (groups * chunks, chunk, chunk)."""
        return torch.bmm(self.phi_q, self.phi_k.transpose(1, 2)).tril_()

    def normaliser(self, call: Call, pairs: Tensor, before: tuple[Tensor, Tensor]) -> Tensor | None:
        """n, (groups * chunks, chunk, 1); None if nothing divides."""
        if call.eps is None:
            return None
        total = pairs.sum(dim=-1, keepdim=True).add_(call.eps)
        total.add_((self.phi_q * before[1]).sum(dim=-1, keepdim=True))
        return total.clamp_(min=call.least) if call.least else total

    def key_sums(self) -> tuple[Tensor, Tensor]:
        """S and z of each chunk alone."""
        return torch.bmm(self.phi_k.transpose(1, 2), self.v), self.phi_k.sum(dim=1, keepdim=True)

    def no_sums(self) -> tuple[Tensor, Tensor]:
        """S and z of no tokens, (groups, F, E) and (groups, 1, F)."""
        num_features, like_v = self.phi_k.shape[-1], self.v
        context = like_v.new_zeros(self.num_groups, num_features, like_v.shape[-1])
        return context, like_v.new_zeros(self.num_groups, 1, num_features)

    def scan(
        self, own: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor], *, back: bool = False
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """For each chunk ``past`` plus the chunks before it, or after it; and ``past`` plus all.

        Subtracting a chunk from an inclusive sum would leave its rounding behind: the past would
        then depend on the future's bits.
        """
        before, after = [], []
        for each, start in zip(own, past, strict=True):
            terms = torch.unflatten(each, 0, (self.num_groups, -1)).unbind(1)
            sums = each.new_empty(self.num_groups, len(terms) + 1, *each.shape[1:])
            totals = sums.unbind(1)
            if back:
                terms, totals = terms[::-1], totals[::-1]
            totals[0].copy_(start)
            for total, term, following in zip(totals[:-1], terms, totals[1:], strict=True):
                torch.add(total, term, out=following)
            before.append((sums[:, 1:] if back else sums[:, :-1]).flatten(0, 1))
            after.append(totals[-1].clone())  # a view would keep the sums of all chunks alive
        return (before[0], before[1]), (after[0], after[1])


def causal_flops(shape: CallShape, num_features: int) -> int:
    """What the forward pass executes: whole chunks, with the hidden pairs within them."""
    whole_chunks, rest = divmod(shape.query_len, CHUNK)
    pairs = shape.batch_size * shape.num_heads * (whole_chunks * CHUNK**2 + rest**2)
    within = 2 * pairs * (num_features + shape.value_dim)
    return within + 4 * shape.num_tokens * num_features * shape.value_dim
