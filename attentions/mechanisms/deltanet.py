"""DeltaNet: the delta rule, in which a key's new value replaces its old one."""

from __future__ import annotations

from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities, Gate
from ..maths.recurrent import DeltaCore
from ..precision import in_wide_precision, step_in_wide_precision
from ..registry import register_attention


@register_attention(
    "deltanet",
    title="DeltaNet",
    source="Yang et al., 2024, arXiv:2406.06484; Schlag et al., 2021, arXiv:2102.11174",
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        gates={"beta": Gate("bhn", low=0, high=1)},
        position_free=False,
    ),
)
class DeltaNet(DeltaCore):
    """S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T and out_t = S_t^T q_t / sqrt(head_dim).

    ``beta``, (B, H, N), is how much of the old value gives way: 0 writes nothing, 1 replaces it.
    Without it each head has one that is learned, sigmoid(beta_logit), and starts at 1/2, where the
    papers' projection sigmoid(W x) starts on average.

    Keys must not be longer than sqrt(2 / beta), or the state grows without bound: beta k k^T would
    then take away more than twice what is stored. So they are brought to unit length here. The
    papers do so before the recurrence, to keys and queries, and the authors' recurrence takes
    them as they come: ``normalise_keys=False``. An un-normalised query has a longer output, which
    the papers' norm after the recurrence takes back and a core without one can use, so queries keep
    their length unless asked. The papers' recurrence has no 1/sqrt(head_dim), the authors' code
    has: ``scale=1`` leaves it out. SiLU and short convolution belong to the papers' layer.

    Hidden tokens neither write to the state nor decay it, as if they were removed. A query whose
    keys are all hidden gets zeros.

    Hazards:
        - With ``normalise_keys=False`` keys longer than sqrt(2 / beta) let the state grow without
          bound.

    Differences:
        - Papers and authors' layer bring queries and keys to unit length before the recurrence;
          here the core does so with keys, and with queries if asked.
        - The papers' recurrence has no 1/sqrt(head_dim), the authors' code has: ``scale=1`` leaves
          it out.

    Args:
        geometry: the shape to build for; causal.
        normalise_keys: whether keys are divided by their length.
        normalise_queries: the same for queries.
        scale: factor of the queries; head_dim^(-1/2) if None.
    """

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool = True,
        normalise_queries: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__(geometry, normalise_keys, normalise_queries, scale)

    @in_wide_precision
    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        beta: Tensor | None = None,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        return self._mix(q, k, v, beta, key_mask=key_mask)

    @step_in_wide_precision
    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: Tensor, *, beta: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        return self._continue(q, k, v, state, beta)

    def reference(self, q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None) -> Tensor:
        """One N x N system for the values, and N x N weights over them."""
        return self._written_out(q, k, v, beta, None)
