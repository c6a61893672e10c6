"""MesaNet: each query meets the keys so far through the inverse of their covariance.

    H_t = exp(g_t) H_{t-1} + beta_t k_t k_t^T        M_t = exp(g_t) M_{t-1} + beta_t k_t v_t^T
    out_t = M_t^T x_t        (H_t + diag(ridge)) x_t = q_t        g_t <= 0

A few tokens at a time have their matrices H_t written out, so that their systems are solved at
once; values then meet x in pairs, as queries in `decay`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..base import CallShape, Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import flag, one_of, whole
from ..engines.state import StateCore
from ..maths.recurrences.chunks import in_chunks, padded_len
from ..maths.recurrences.decay import chunk_decays
from ..maths.recurrences.gates import HEAD_RATES, spread
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "mesanet",
    title="MesaNet",
    source="von Oswald et al., 2025, arXiv:2506.05233",
    family="recurrent",
    capabilities=replace(
        RECURRENT,
        gates={
            "beta": Gate("bhn", low=0, high=1),
            "log_decay": Gate("bhn", high=0, activation="logsigmoid"),
        },
    ),
)
class MesaNet(StateCore):
    """The values that ridge regression on all tokens so far predicts for the query.

        H_t = exp(g_t) H_{t-1} + beta_t k_t k_t^T        M_t = exp(g_t) M_{t-1} + beta_t k_t v_t^T
        out_t = M_t^T (H_t + diag(ridge))^{-1} q_t

    ``beta`` and ``log_decay``, (B, H, N), are beta and g; ``ridge``, (H, D), is learned, from 1.
    Without gates each head has values that are learned: sigmoid(beta_logit), starting at 1/2, and
    -exp(log_rate), from 0.001 to 1.6 per token, slow heads first.

    Hidden tokens neither write to the state nor decay it. A query whose keys are all hidden gets
    zeros.

    Hazards:
        - Float32 loses digits by the condition number, (sum of beta |k|^2 + ridge) / min ridge.
        - A ridge that reaches 0 makes the matrix singular while there are fewer keys than channels.
        - With gradients the matrices of all tokens are kept, D^2 numbers per token and head.

    Differences:
        - ``solver="cg"`` is the authors' conjugate gradients from 0, with 1e-5 added to both
          denominators: it stops at a relative error of about 5e-4, however many steps it takes. The
          paper's definition is the solve.
        - Their decoding starts from another guess, q / (diag(H) + ridge); here `step` is `forward`.
        - Their layer learns ridge as softplus(x) + 1/4; it projects beta and g, and has
          convolutions and a norm.

    Args:
        geometry: the shape to build for; causal.
        solver: "exact", a solve for each token, or "cg".
        iterations: steps of conjugate gradients.
        normalise_keys: whether keys are divided by their length, as in `deltanet`.
        normalise_queries: the same for queries.
    """

    def __init__(
        self,
        geometry: Geometry,
        solver: str = "exact",
        iterations: int = 30,
        normalise_keys: bool = True,
        normalise_queries: bool = True,
    ) -> None:
        super().__init__(geometry)
        is_exact = one_of(self.name, "solver", solver, ("exact", "cg")) == "exact"
        steps = whole(self.name, "iterations", iterations, 1)
        self.steps = None if is_exact else steps
        self.normalise_keys = flag(self.name, "normalise_keys", normalise_keys)
        self.normalise_queries = flag(self.name, "normalise_queries", normalise_queries)
        self.ridge = nn.Parameter(torch.ones(geometry.num_heads, geometry.head_dim))
        self.beta_logit = nn.Parameter(torch.zeros(geometry.num_heads))
        self.log_rate = nn.Parameter(spread(HEAD_RATES, geometry.num_heads).log())

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One share and one decay per head."""
        written, forgotten = widen(self.beta_logit).sigmoid(), -widen(self.log_rate).exp()
        return {"beta": written, "log_decay": forgotten}

    def head_weights(self) -> tuple[Tensor, ...]:
        """The ridge, (H, D)."""
        return (self.ridge,)

    def init_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> RidgeState:
        """Zeros; float32 for half inputs."""
        context: Tensor = super().init_state(batch_size, dtype=dtype, device=device)
        return RidgeState(context.new_zeros(*context.shape[:3], context.shape[2]), context)

    def update(
        self, state: RidgeState, k: Tensor, v: Tensor, beta: Tensor, g: Tensor, ridge: Tensor
    ) -> RidgeState:
        """Both sums decay and take one term more."""
        left, written = g.exp(), (beta * k).mT
        return RidgeState(left * state.gram + written @ k, left * state.context + written @ v)

    def read(self, q: Tensor, state: RidgeState, *gates: Tensor) -> Tensor:
        """Solve for the query, and read under what comes out."""
        return solve_ridge(state.gram.unsqueeze(-3), gates[-1], q, self.steps) @ state.context

    def chunks(self, q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, RidgeState]:
        """The same for a few tokens at a time, whose systems are solved at once."""
        return ridge_regression(q, k, v, *others, steps=self.steps)

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """Inverses, or conjugate gradients on pairs, of all tokens at once."""
        inputs = self._inputs(q, k, v, None, gates)
        return reference_ridge_regression(*inputs, steps=self.steps)

    def flops(self, shape: CallShape) -> int:
        """Two writes, a read, and a solve by elimination or by products with a vector."""
        d, e = shape.head_dim, shape.value_dim
        return shape.num_tokens * (2 * d * d + 4 * d * e + solve_flops(d, self.steps))

    def executed_flops(self, shape: CallShape) -> int:
        """As torch's counter sees it, and exact solves, which it does not."""
        unseen = solves_of_chunks_flops(shape) if self.steps is None else 0
        return super().executed_flops(shape) + unseen


_CHUNK = 16
"""Tokens whose matrices H_t are written out at once; it divides the chunks of `chunks`."""
_CG_EPS = 1e-5
"""Added to both denominators of a step of conjugate gradients, in the authors' code."""


class RidgeState(NamedTuple):
    """Sums over the keys so far: H, (B, H, D, D), of themselves and M, (B, H, D, E), of values."""

    gram: Tensor
    context: Tensor


def solve_ridge(gram: Tensor, ridge: Tensor, q: Tensor, steps: int | None) -> Tensor:
    """Solve (gram + diag(ridge)) x = q for each token.

    Args:
        gram: (..., T, D, D), or (..., 1, D, D) of one token.
        ridge: (..., 1, D).
        q: (..., T, D).
        steps: of conjugate gradients from 0; None for an exact solve.

    Returns:
        x, (..., T, D).
    """
    if steps is None:
        solved: Tensor = torch.linalg.solve(gram + torch.diag_embed(ridge), q.unsqueeze(-1))
        return solved.squeeze(-1)
    x, rest, way, size = torch.zeros_like(q), q, q, _square(q)
    for _ in range(steps):
        image = (gram @ way.unsqueeze(-1)).squeeze(-1) + ridge * way
        pace = size / ((way * image).sum(dim=-1, keepdim=True) + _CG_EPS)
        x, rest, before = x + pace * way, rest - pace * image, size
        size = _square(rest)
        way = rest + size / (before + _CG_EPS) * way
    return x


def ridge_regression(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor,
    ridge: Tensor,
    state: RidgeState,
    *,
    steps: int | None,
) -> tuple[Tensor, RidgeState]:
    """Run the recurrence from ``state`` over the tokens, a few at a time.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        beta: (B, H, N); B may be 1, and N may be 1 if it never changes.
        log_decay: as beta.
        ridge: (1, H, 1, D).
        state: before the first token.
        steps: of conjugate gradients; None for an exact solve.

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length, (gram, context) = q.shape[2], state
    beta, log_decay = (x.to(q.dtype).expand(len(q), -1, length) for x in (beta, log_decay))
    from_start, to_end, between = chunk_decays(log_decay, length, _CHUNK, q.dtype)
    pairs = between * in_chunks(beta, _CHUNK, -1).unsqueeze(-2)
    q, k, v, written = (in_chunks(x, _CHUNK) for x in (q, k, v, beta.unsqueeze(-1) * k))
    outputs, written = [], (written * to_end).mT
    parts = (x.unbind(2) for x in (q, k, v, written, pairs, from_start))
    for q_c, k_c, v_c, new, weights, left in zip(*parts, strict=True):
        squares = (k_c.unsqueeze(-1) * k_c.unsqueeze(-2)).flatten(-2)  # (B, H, C, D * D)
        grams = left * gram.flatten(-2).unsqueeze(-2) + weights @ squares
        grams = grams.unflatten(-1, gram.shape[-2:])
        x = solve_ridge(grams, ridge, q_c, steps)
        outputs.append((x @ k_c.mT * weights) @ v_c + left * (x @ context))
        gram, context = grams[..., -1, :, :], left[..., -1:, :] * context + new @ v_c
    gram = gram.clone()  # a view would keep those of a whole chunk
    return torch.cat(outputs, dim=2)[:, :, :length], RidgeState(gram, context)


def reference_ridge_regression(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor,
    ridge: Tensor,
    *,
    steps: int | None,
) -> Tensor:
    """`ridge_regression` from an empty state: the inverses, or the pairs, of all tokens at once."""
    total = log_decay.expand(len(q), -1, q.shape[2]).cumsum(dim=-1)
    decay = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
    pairs = decay * beta[..., None, :]
    if steps is None:
        gram = torch.einsum("bhij,bhjd,bhje->bhide", pairs, k, k) + torch.diag_embed(ridge)
        x = torch.einsum("bhide,bhie->bhid", torch.linalg.inv(gram), q)
    else:
        x, rest, way = torch.zeros_like(q), q, q
        for _ in range(steps):
            image = (way @ k.mT * pairs) @ k + ridge * way
            pace = _square(rest) / ((way * image).sum(dim=-1, keepdim=True) + _CG_EPS)
            x, after = x + pace * way, rest - pace * image
            way = after + _square(after) / (_square(rest) + _CG_EPS) * way
            rest = after
    out: Tensor = (x @ k.mT * pairs) @ v
    return out


def solve_flops(width: int, steps: int | None) -> int:
    """Elimination and two triangular systems, or a product with H_t in each step."""
    return 2 * width**2 * steps if steps else 2 * width**3 // 3 + 2 * width**2


def solves_of_chunks_flops(shape: CallShape) -> int:
    """Exact solves of whole chunks, which torch's counter does not see."""
    tokens = shape.batch_size * shape.num_heads * padded_len(shape.query_len, _CHUNK)
    return tokens * solve_flops(shape.head_dim, None)


def _square(x: Tensor) -> Tensor:
    return x.square().sum(dim=-1, keepdim=True)
