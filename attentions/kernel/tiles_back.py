"""The way back of `tiles`: gradients, tile by tile.

The backward pass has S and z and finds features again. With g_i = dout_i / (phi(q_i) z + eps) and
c_i = -(g_i . out_i),

    queries:  dphi(q_i) = S g_i + c_i z,  dS = sum_i phi(q_i) g_i^T,  dz = sum_i c_i phi(q_i)
    keys:     dphi(k_j) = dS v_j + dz,    dv_j = dS^T phi(k_j)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..maths.feature_maps import exp_
from .derivatives import Parts, Pullback, linearised
from .tiles import (
    SHORTEST,
    Call,
    Sums,
    Tiles,
    add_product,
    flat,
    gathered,
    groups,
    pieces,
    read,
    store,
    widened,
)


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
    size = max(size // 2, SHORTEST)  # more results are alive at once than forward
    each = len(kept) // len(cut)
    for index, group in enumerate(cut):
        sums = tuple(kept[index * each : (index + 1) * each])
        peak, sums = (None, sums) if call.core.floor is None else (sums[0], sums[1:])
        tiles = _Back(call, group, size, k.shape[2], group.weights(weights))
        queries, keys, values, d_out, *d_inputs = group.of(q, k, v, grad_out, *grads)
        d_weights = group.weights(grad_weights)
        (contexts, key_sums), back = _gathered_with_pull(call, sums)
        d_read = tiles.query_gradients(queries, d_out, contexts, key_sums, d_inputs[0], d_weights)
        tiles.key_gradients(keys, values, peak, back(d_read), d_inputs[1], d_inputs[2], d_weights)
    return [*grads, *grad_weights]


def _gathered_with_pull(
    call: Call, sums: Sums
) -> tuple[tuple[Parts, Parts], Callable[[Sums], Sums]]:
    """The same; and what takes the gradients of that to those of the sums."""
    if not call.core.combines:
        return gathered(call, sums), lambda d_read: d_read
    with torch.enable_grad():
        leaves = tuple(x.detach().requires_grad_() for x in sums)
        contexts, key_sums = gathered(call, leaves)

    def back(d_read: Sums) -> Sums:
        outputs = (*contexts, *key_sums)
        return torch.autograd.grad(
            outputs, leaves, d_read, allow_unused=True, materialize_grads=True
        )

    detached = [tuple(x.detach() for x in side) for side in (contexts, key_sums)]
    return (detached[0], detached[1]), back


class _Back(Tiles):
    """The passes back over the tiles of one group."""

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
            x, places = widened(q[:, :, tokens]), self.call.at(tokens)
            phi, pull = linearised(self.call.core.phi_q, x, self.weights, places)
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
            x, places = widened(k[:, :, tokens]), self.call.at(tokens)
            phi, pull = linearised(self.call.core.key_map, x, self.weights, places)
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
