"""MesaNet: each query meets the keys so far through the inverse of their covariance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..base import CallShape, Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import flag, one_of, whole
from ..engines.state import StateCore
from ..maths.gates import HEAD_RATES, spread
from ..maths.ridge import (
    RidgeState,
    reference_ridge_regression,
    ridge_regression,
    solve_flops,
    solve_ridge,
    solves_of_chunks_flops,
)
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
