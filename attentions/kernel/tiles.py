"""Kernel attention in which every query sees every key, tile by tile, with its backward pass.

    S = sum_j phi(k_j) v_j^T,  z = sum_j phi(k_j),  out_i = phi(q_i) S / (phi(q_i) z + eps)

A rotation stands between features and S, and not between features and z. The backward pass keeps S
and z and recomputes features. With g_i = dout_i / (phi(q_i) z + eps) and c_i = -(g_i . out_i),

    queries:  dphi(q_i) = S g_i + c_i z,  dS = sum_i phi(q_i) g_i^T,  dz = sum_i c_i phi(q_i)
    keys:     dphi(k_j) = dS v_j + dz,    dv_j = dS^T phi(k_j)

A tile is some tokens of some heads of some batch rows, at most `TOKENS` in all: an operator's
result is then some 512 KiB, which the next operator finds in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..maths.feature_maps import exp_
from ..precision import HALF
from .derivatives import Parts, Pullback
from .maps import Call

TOKENS = 2048
"""Tokens of a tile, over its rows and heads; fewer of them have more than `_WIDE` features."""
_WIDE = 128
_MOST_PARTS = 4
"""Largest part that wide features make of a tile: operators on fewer tokens are mostly overhead."""
_SHORTEST = 32
"""Tokens of a tile with very many joint heads."""

Sums: TypeAlias = tuple[Tensor, ...]
"""S of each part, (rows * heads, F, E), then z of each part, (rows * heads, F, 1)."""


def groups(call: Call, x: Tensor, length: int) -> tuple[list[Group], int]:
    """Rows and heads that tiles are cut from, and how many tokens each tile has, at most.

    Args:
        call: its features may be many, or need all heads in a tile.
        x: (B, H, ...).
        length: of the longer of queries and keys.
    """
    wide = max(1, call.core.feature_dim // _WIDE)
    most = TOKENS // min(wide, _MOST_PARTS)
    num_rows, num_heads = x.shape[:2]
    heads = num_heads if call.core.joint_heads else max(1, min(num_heads, most // length))
    rows = max(1, most // (length * heads)) if heads == num_heads else 1
    both = [
        Group(slice(row, row + rows), slice(head, head + heads))
        for row in range(0, num_rows, rows)
        for head in range(0, num_heads, heads)
    ]
    return both, max(most // (rows * heads), _SHORTEST)


@dataclass(frozen=True)
class Group:
    """Some batch rows and some of their heads."""

    rows: slice
    heads: slice

    def of(self, *tensors: Tensor) -> list[Tensor]:
        """Views of (B, H, ...)."""
        return [x[self.rows, self.heads] for x in tensors]

    def weights(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Views of (H, ...)."""
        return [weight[self.heads] for weight in weights]


def pieces(length: int, size: int) -> Iterator[slice]:
    """Tokens, ``size`` at a time."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def widened(x: Tensor) -> Tensor:
    """Float32 for a tile of a half tensor."""
    return x.float() if x.dtype in HALF else x


def like(x: Tensor, width: int) -> Tensor:
    """Memory for (B, H, N, width), with heads and tokens in the order of x."""
    batch_size, num_heads, length = x.shape[:3]
    if x.stride(1) < x.stride(2):  # tokens first
        return x.new_empty(batch_size, length, num_heads, width).transpose(1, 2)
    return x.new_empty(batch_size, num_heads, length, width)


def store(value: Tensor, target: Tensor) -> None:
    """Write a wide tile where it belongs; float16 stops at its largest number."""
    if target.dtype == torch.float16:
        largest = torch.finfo(torch.float16).max
        value = value.clamp(-largest, largest)
    target.copy_(value.view(target.shape))


def flat(parts: Parts) -> Parts:
    """(rows, heads, n, F) -> (rows * heads, n, F), for matrix products."""
    return tuple(part.flatten(0, 1) for part in parts)


def add_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """``total`` + A B, in place. Not by `baddbmm_`, which torch's counter of FLOPs skips."""
    return torch.bmm(a, b) if total is None else torch.baddbmm(total, a, b, out=total)


def read(parts: Parts, sums: Sequence[Tensor]) -> Tensor:
    """Phi S, added up over parts: (g, n, F), (g, F, E) -> (g, n, E)."""
    total = None
    for phi, one in zip(parts, sums, strict=True):
        total = add_product(total, phi, one)
    assert total is not None
    return total


def forward(
    call: Call, q: Tensor, k: Tensor, v: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output; and the sums of each group, with the peak of its keys before them if any."""
    out = like(q, v.shape[-1])
    cut, size = groups(call, q, max(q.shape[2], k.shape[2]))
    kept: list[Tensor] = []
    for group in cut:
        work = _Work(call, group, size, k.shape[2], group.weights(weights))
        queries, keys, values, outputs = group.of(q, k, v, out)
        sums, peak = work.sum_keys(keys, values)
        kept += sums if peak is None else (peak, *sums)
        work.read_queries(queries, *_gathered(call, sums), outputs)
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
    cut, size = groups(call, q, max(q.shape[2], k.shape[2]))
    size = max(size // 2, _SHORTEST)  # more results are alive at once than forward
    each = len(kept) // len(cut)
    for index, group in enumerate(cut):
        sums = tuple(kept[index * each : (index + 1) * each])
        peak, sums = (None, sums) if call.core.floor is None else (sums[0], sums[1:])
        work = _Work(call, group, size, k.shape[2], group.weights(weights))
        queries, keys, values, d_out, *d_inputs = group.of(q, k, v, grad_out, *grads)
        d_weights = group.weights(grad_weights)
        (contexts, key_sums), back = _gathered_with_pull(call, sums)
        d_read = work.query_gradients(queries, d_out, contexts, key_sums, d_inputs[0], d_weights)
        work.key_gradients(keys, values, peak, back(d_read), d_inputs[1], d_inputs[2], d_weights)
    return [*grads, *grad_weights]


def _gathered(call: Call, sums: Sums) -> tuple[Parts, Parts]:
    """Sums that queries read."""
    contexts, key_sums = sums[: len(sums) // 2], sums[len(sums) // 2 :]
    return call.combine(contexts, key_sums) if call.combine else (contexts, key_sums)


def _gathered_with_pull(
    call: Call, sums: Sums
) -> tuple[tuple[Parts, Parts], Callable[[Sums], Sums]]:
    """The same; and what takes the gradients of that to those of the sums."""
    if call.combine is None:
        return _gathered(call, sums), lambda d_read: d_read
    with torch.enable_grad():
        leaves = tuple(x.detach().requires_grad_() for x in sums)
        contexts, key_sums = _gathered(call, leaves)

    def back(d_read: Sums) -> Sums:
        outputs = (*contexts, *key_sums)
        return torch.autograd.grad(
            outputs, leaves, d_read, allow_unused=True, materialize_grads=True
        )

    detached = [tuple(x.detach() for x in side) for side in (contexts, key_sums)]
    return (detached[0], detached[1]), back


@dataclass(frozen=True)
class _Work:
    """The passes over the tiles of one group, whose tensors are (rows, heads, ...)."""

    call: Call
    group: Group
    size: int
    num_keys: int
    weights: Sequence[Tensor]

    def sum_keys(self, k: Tensor, v: Tensor) -> tuple[Sums, Tensor | None]:
        """S and z, and the peak if the map of the keys has one."""
        sums: list[Tensor] = []
        peak = None
        for tokens in pieces(k.shape[2], self.size):
            phi = self.call.keys.of(widened(k[:, :, tokens]), self.weights, tokens)
            if self.call.core.floor is not None:
                exponents, s = phi
                risen = s.amax(dim=-2, keepdim=True)
                if peak is not None:  # what came before was relative to a lower one
                    risen = torch.maximum(peak, risen)
                    fade = exp_(peak - risen).flatten(0, 1).transpose(1, 2)
                    sums = [total.mul_(fade) for total in sums]
                peak, phi = risen, (exp_(exponents - risen),)
            values = widened(v[:, :, tokens]).flatten(0, 1)
            key_sums = [self._sum(part).flatten(0, 1).unsqueeze(-1) for part in phi]
            turned = flat(self._turned(phi, tokens, in_place=True))
            if sums:
                for total, part in zip(sums, turned, strict=False):
                    add_product(total, part.transpose(1, 2), values)
                for total, more in zip(sums[len(turned) :], key_sums, strict=True):
                    total.add_(more)
            else:
                sums = [torch.bmm(part.transpose(1, 2), values) for part in turned] + key_sums
        if self.call.core.floor:
            wide = v.sum(dim=2, keepdim=True, dtype=sums[0].dtype).flatten(0, 1)
            sums[0].add_(wide, alpha=self.call.core.floor)
            sums[1].add_(self.call.core.floor * self.num_keys)
        return tuple(sums), peak

    def _sum(self, phi: Tensor) -> Tensor:
        """Sum over tokens, which nothing looks at where nothing divides."""
        return phi.sum(dim=-2) if self.call.reads_key_sums else torch.zeros_like(phi[..., 0, :])

    def read_queries(self, q: Tensor, contexts: Parts, key_sums: Parts, out: Tensor) -> None:
        """Fill ``out``."""
        for tokens in pieces(q.shape[2], self.size):
            phi = self.call.queries.of(widened(q[:, :, tokens]), self.weights, tokens)
            target = out[:, :, tokens]
            factor = None
            if self.call.core.divides:  # a product is faster than a division
                factor = self.call.over_columns(self._normaliser(phi, key_sums).reciprocal_())
            turned = flat(self._turned(phi, tokens, in_place=True))
            found = read(turned, contexts)
            if factor is not None and target.dtype == found.dtype:
                torch.mul(found.view(target.shape), factor.view(*target.shape[:3], -1), out=target)
            else:
                store(found if factor is None else found.mul_(factor), target)

    def query_gradients(
        self,
        q: Tensor,
        grad_out: Tensor,
        contexts: Parts,
        key_sums: Parts,
        grad_q: Tensor,
        grad_weights: Sequence[Tensor],
    ) -> Sums:
        """Fill ``grad_q`` and add to ``grad_weights``; returns the gradients of S and z as read."""
        d_contexts: list[Tensor | None] = [None] * len(contexts)
        d_key_sums: list[Tensor | None] = [None] * len(contexts)
        for tokens in pieces(q.shape[2], self.size):
            x = widened(q[:, :, tokens])
            phi, pull = self.call.queries.linearised(x, self.weights, tokens)
            turned = flat(self._turned(phi, tokens))
            g = widened(grad_out[:, :, tokens]).flatten(0, 1)
            if self.call.core.divides:
                divisor = self._normaliser(phi, key_sums)
                factor = divisor.reciprocal()
                g = g * self.call.over_columns(factor)
            d_contexts = [
                add_product(total, part.transpose(1, 2), g)
                for total, part in zip(d_contexts, turned, strict=True)
            ]
            d_turned, dots = self._through_contexts(g, contexts, turned)
            d_phi = tuple(part.view(phi[0].shape) for part in d_turned)
            d_phi = self._turned(d_phi, tokens, back=True)
            if self.call.core.divides:
                assert dots is not None
                c = dots.mul_(factor).neg_()
                if self.call.core.least:
                    c.mul_(divisor > self.call.core.least)
                for part, key_sum in zip(flat(d_phi), key_sums, strict=True):
                    add_product(part, c, key_sum.transpose(1, 2))
                d_key_sums = [
                    add_product(total, c.transpose(1, 2), part)
                    for total, part in zip(d_key_sums, flat(phi), strict=True)
                ]
            pull_back(pull, d_phi, grad_q[:, :, tokens], grad_weights)
        zeros = (torch.zeros_like(key_sum) for key_sum in key_sums)
        found = (
            x if total is None else total.transpose(1, 2)
            for x, total in zip(zeros, d_key_sums, strict=True)
        )
        return (*(total for total in d_contexts if total is not None), *found)

    def _through_contexts(
        self, g: Tensor, contexts: Parts, turned: Parts
    ) -> tuple[Parts, Tensor | None]:
        """Gradients of the rotated features, and for each group of columns g . phi S, (g, n, C)."""
        d_turned: Parts = ()
        dots = []
        for columns in self.call.groups_of_columns():
            found = tuple(
                torch.bmm(g[..., columns], context[..., columns].transpose(1, 2))
                for context in contexts
            )
            if self.call.core.divides:
                both = zip(found, turned, strict=True)
                each = [(a * b).sum(dim=-1, keepdim=True) for a, b in both]
                dots.append(sum(each[1:], start=each[0]))
            if d_turned:
                found = tuple(a.add_(b) for a, b in zip(d_turned, found, strict=True))
            d_turned = found
        return d_turned, torch.cat(dots, dim=-1) if len(dots) > 1 else (*dots, None)[0]

    def key_gradients(
        self,
        k: Tensor,
        v: Tensor,
        peak: Tensor | None,
        d_sums: Sums,
        grad_k: Tensor,
        grad_v: Tensor,
        grad_weights: Sequence[Tensor],
    ) -> None:
        """Fill ``grad_k`` and ``grad_v`` and add to ``grad_weights``."""
        d_contexts, d_key_sums = d_sums[: len(d_sums) // 2], d_sums[len(d_sums) // 2 :]
        for tokens in pieces(k.shape[2], self.size):
            x = widened(k[:, :, tokens])
            phi, pull = self.call.keys.linearised(x, self.weights, tokens)
            if peak is not None:
                phi, pull = _below(peak, phi[0], pull, self.call.core.floor or 0.0)
            store(read(flat(self._turned(phi, tokens)), d_contexts), grad_v[:, :, tokens])
            values = widened(v[:, :, tokens]).flatten(0, 1)
            d_phi = tuple(
                torch.bmm(values, context.transpose(1, 2)).view(phi[0].shape)
                for context in d_contexts
            )
            d_phi = self._turned(d_phi, tokens, back=True)
            if self.call.reads_key_sums:
                for part, d_key_sum in zip(flat(d_phi), d_key_sums, strict=True):
                    part.add_(d_key_sum.transpose(1, 2))
            pull_back(pull, d_phi, grad_k[:, :, tokens], grad_weights)

    def _turned(
        self, parts: Parts, tokens: slice, *, back: bool = False, in_place: bool = False
    ) -> Parts:
        heads = self.group.heads
        return self.call.turned(parts, heads, tokens, back=back, in_place=in_place)

    def _normaliser(self, phi: Parts, key_sums: Sequence[Tensor]) -> Tensor:
        """Normaliser, (g, n, C)."""
        # As z^T phi^T: with a column on the right, a batched product is slow.
        rows = [key_sum.transpose(1, 2) for key_sum in key_sums]
        columns = [part.transpose(1, 2) for part in flat(phi)]
        total = read(tuple(rows), columns).transpose(1, 2)
        if self.call.core.eps:
            total.add_(self.call.core.eps * (self.num_keys if self.call.core.eps_on_mean else 1))
        return total.clamp_(min=self.call.core.least) if self.call.core.least else total


def _below(peak: Tensor, exponents: Tensor, pull: Pullback, floor: float) -> tuple[Parts, Pullback]:
    """Features relative to the peak, and their derivative."""
    above = exp_(exponents - peak)
    return (above + floor if floor else above,), lambda d_phi: pull(d_phi.mul_(above))


def pull_back(pull: Pullback, d_phi: Parts, grad_x: Tensor, grad_weights: Sequence[Tensor]) -> None:
    """Fill ``grad_x`` and add to ``grad_weights``."""
    d_x, *found = pull(*d_phi)
    assert d_x is not None
    store(d_x, grad_x)
    for total, more in zip(grad_weights, found, strict=True):
        if more is not None:
            total.add_(more)
