"""DeltaNet: the delta rule, in which a key's new value replaces its old one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..base import Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import flag
from ..engines.state import StateCore
from ..maths.recurrences.transition import Transition
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "deltanet",
    title="DeltaNet",
    source="Yang et al., 2024, arXiv:2406.06484; Schlag et al., 2021, arXiv:2102.11174",
    family="recurrent",
    capabilities=replace(RECURRENT, gates={"beta": Gate("bhn", low=0, high=1)}),
)
class DeltaNet(StateCore):
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
        normalise_keys: whether keys are divided by their length, k / sqrt(|k|^2 + 1e-6) as in the
            authors' layer: keys shorter than about 0.001 stay shorter than 1.
        normalise_queries: the same for queries.
        scale: factor of the queries; head_dim^(-1/2) if None, 1 in the papers.
        negative_eigenvalues: whether beta reaches 2, so that a step can flip what a key holds.
    """

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool = True,
        normalise_queries: bool = False,
        scale: float | None = None,
        negative_eigenvalues: bool = False,
    ) -> None:
        super().__init__(geometry)
        self.normalise_keys = flag(self.name, "normalise_keys", normalise_keys)
        self.normalise_queries = flag(self.name, "normalise_queries", normalise_queries)
        self.most = 2.0 if flag(self.name, "negative_eigenvalues", negative_eigenvalues) else 1.0
        self.gates["beta"] = Gate("bhn", low=0, high=self.most)
        self.scale = self.checked_scale(scale)
        self.beta_logit = nn.Parameter(torch.zeros(geometry.num_heads))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One share per head."""
        return {"beta": self.most * widen(self.beta_logit).sigmoid()}

    def transition(self, k: Tensor, v: Tensor, beta: Tensor) -> Transition:
        """Replace what is stored under the key."""
        return Transition(k, beta * v, erase=beta * k)
