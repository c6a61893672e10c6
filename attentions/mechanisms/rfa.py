"""Random feature attention: random Fourier features, with or without a gate that forgets."""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import Capabilities, Gate
from ..checks import flag, one_of, positive, random_seed, whole
from ..engines.kernel import KernelCore
from ..engines.state import StateCore
from ..maths.feature_maps import direction
from ..maths.orthogonal import orthogonal_gaussian
from ..maths.recurrences.transition import Transition
from ..precision import wide_dtype, widen
from ..registry import register_attention

_GATE_BIAS = 2.0
"""A gate of 0.88 to start with. The paper names no value."""


_SOURCE = "Peng et al., 2021, arXiv:2103.02143"


@register_attention(
    "rfa",
    title="RFA (random Fourier features)",
    source=_SOURCE,
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Rfa(KernelCore):
    """Linear attention whose features estimate a Gaussian kernel of directions.

        phi(x) = F^(-1/2) [sin(w_m . x / ||x||); cos(w_m . x / ||x||)],  m = 1 .. F
        out_i  = sum_j phi(q_i) . phi(k_j) v_j / max(sum_j phi(q_i) . phi(k_j), eps)

    Every head has F rows w_m of its own, Gaussian with the learned spread ``sigma`` / ``tau`` per
    channel. phi(q) . phi(k) estimates exp(-||q - k||^2 / 2), which for directions is exp(q . k) /
    e.

    With the paper's gate it is `RfaGated`. A query whose keys are all hidden gets zeros.

    Hazards:
        - Estimates can be negative, and their sum near zero: the sum is at least ``eps``, and below
          that the output shrinks.
        - With ``normalise=False`` the error grows fast with the norms of queries and keys.

    Differences:
        - The authors' code holds the sum of weights to 1, later copies to 0.1, of sums F / 100
          times as large: ``eps``.
        - Paper and authors' code take directions, fast-transformers takes x / D^(1/4):
          ``normalise``.
        - fast-transformers' smoothed variant, which appends a constant feature so that sums stay
          off zero, is not offered; here ``eps`` keeps them off.

    Args:
        geometry: the shape to build for.
        num_features: F, so that there are 2 F features; head_dim if None.
        normalise: True for directions, as in paper and authors' code; False takes x / D^(1/4), as
            fast-transformers does, and the kernel then depends on the norms.
        projection: ``"gaussian"`` for independent rows, as in the paper, or ``"orthogonal"`` for
            blocks at right angles to each other, whose estimates spread less.
        tau: temperature of the kernel, 1 in the authors' code unless tuned.
        eps: the least sum of weights.
        projection_seed: seeds all rows.
    """

    projection: Tensor

    def __init__(
        self,
        geometry: Geometry,
        num_features: int | None = None,
        normalise: bool = True,
        projection: str = "gaussian",
        tau: float = 1.0,
        eps: float = 0.1,
        projection_seed: int = 0,
    ) -> None:
        super().__init__(geometry)
        heads, dim = geometry.num_heads, geometry.head_dim
        if num_features is None:
            num_features = dim
        self.num_features = whole(self.name, "num_features", num_features, 1)
        self.normalise = flag(self.name, "normalise", normalise)
        one_of(self.name, "projection", projection, ("gaussian", "orthogonal"))
        self.tau = positive(self.name, "tau", tau)
        self.least = positive(self.name, "eps", eps)
        self.feature_dim = 2 * self.num_features
        random_seed(self.name, "projection_seed", projection_seed)
        draw = orthogonal_rows if projection == "orthogonal" else gaussian_rows
        rows = torch.stack([draw(num_features, dim, projection_seed, h) for h in range(heads)])
        self.register_buffer("projection", rows.to(torch.get_default_dtype()))  # (H, F, D)
        self.sigma = nn.Parameter(torch.ones(heads, dim))

    def weights(self, dtype: torch.dtype) -> tuple[Tensor]:
        """All w_m, (H, F, D).

        Once for queries and keys: each gradient of sigma stops at float16's largest number, their
        sum not.
        """
        return (self.projection.to(dtype) * widen(self.sigma).to(dtype)[:, None] / self.tau,)

    def phi_q(self, q: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Sines and cosines of w_m . q / ||q||, and the same for keys."""
        x = direction(q)[0] if self.normalise else q / math.sqrt(math.sqrt(q.shape[-1]))
        angle = x @ rows.transpose(-2, -1)
        scale = 1 / math.sqrt(self.num_features)
        return angle.sin() * scale, angle.cos() * scale

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights as means of cosines of differences."""
        weights = self._reference_weights(q, k)
        return weights @ v / weights.sum(dim=-1, keepdim=True).clamp(min=self.least)

    def _reference_weights(self, q: Tensor, k: Tensor) -> Tensor:
        angle_q, angle_k = (self._reference_angles(x) for x in (q, k))
        cosines = torch.einsum("bhnf,bhmf->bhnm", angle_q.cos(), angle_k.cos())
        sines = torch.einsum("bhnf,bhmf->bhnm", angle_q.sin(), angle_k.sin())
        weights = (cosines + sines) / self.num_features
        return weights.tril() if self.geometry.causal else weights

    def _reference_angles(self, x: Tensor) -> Tensor:
        x = x / x.pow(2).sum(-1, keepdim=True).sqrt() if self.normalise else x / x.shape[-1] ** 0.25
        spread = self.sigma.to(x.dtype) / self.tau
        return torch.einsum("bhnd,hd,hfd->bhnf", x, spread, self.projection.to(x.dtype))

    def map_flops(self, shape: CallShape) -> int:
        """Both projections."""
        return 2 * (shape.num_tokens + shape.num_keys) * shape.head_dim * self.num_features


@register_attention(
    "rfa_gated",
    title="RFA with a gate",
    source=_SOURCE,
    family="kernel",
    capabilities=Capabilities(
        bidirectional=False, causal=True, recurrent=True, masks=frozenset({"padding"})
    ),
)
class RfaGated(StateCore, Rfa):
    """RFA whose past fades: a new token enters with what a gate lets go of.

        g_t   = sigmoid(w_g . k_t + b_g)
        S_t   = g_t S_{t-1} + (1 - g_t) phi(k_t) v_t^T,  z_t = g_t z_{t-1} + (1 - g_t) phi(k_t)
        out_t = phi(q_t) S_t / max(phi(q_t) . z_t, eps)

    The paper's gate looks at the layer's input; a core sees its projections only, and here it
    looks at the key, which a layer makes of that input. A hidden key moves no gate.

    Hazards:
        - Those of `rfa`; a gate near 1 writes nothing, one near 0 forgets everything.

    Differences:
        - The paper's gate looks at the layer's input; a core sees its projections only, and here it
          looks at the key.

    Args:
        geometry: the shape to build for; causal.
        num_features: as for `Rfa`.
        normalise: as for `Rfa`.
        projection: as for `Rfa`.
        tau: as for `Rfa`.
        eps: as for `Rfa`.
        projection_seed: as for `Rfa`.
    """

    shares_heads = False  # a gate looks at its own head of keys

    def __init__(
        self,
        geometry: Geometry,
        num_features: int | None = None,
        normalise: bool = True,
        projection: str = "gaussian",
        tau: float = 1.0,
        eps: float = 0.1,
        projection_seed: int = 0,
    ) -> None:
        super().__init__(geometry, num_features, normalise, projection, tau, eps, projection_seed)
        self.own_gates = {
            "log_decay": Gate("bhn", high=0),
            "arrives": Gate("bhn", low=0, high=1),
        }
        self.gate_weight = nn.Parameter(torch.zeros(geometry.num_heads, geometry.head_dim))
        self.gate_bias = nn.Parameter(torch.full((geometry.num_heads,), _GATE_BIAS))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """Log g_t and 1 - g_t, (B, H, N)."""
        weight, bias = (widen(p).to(k.dtype) for p in (self.gate_weight, self.gate_bias))
        score = (k * weight[:, None]).sum(dim=-1) + bias[:, None]
        return {"log_decay": functional.logsigmoid(score), "arrives": (-score).sigmoid()}

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Features."""
        return self.query_features(q), self.key_features(k)

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """S with the sums of weights as its last column, (B, H, 2 F, E + 1), of zeros."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, self.feature_dim, g.value_dim + 1)
        return torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)

    def transition(self, k: Tensor, v: Tensor, g: Tensor, arrives: Tensor) -> Transition:
        """The past fades by as much as the new token arrives."""
        return Transition(arrives * k, _with_ones(v), g)

    def read(self, q: Tensor, state: Tensor, *gates: Tensor) -> Tensor:
        """Weighted values over the sum of weights."""
        return self._divided(q @ state)

    def chunks(self, q: Tensor, k: Tensor, v: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        """The same, chunk by chunk."""
        sums, state = self._by_transitions(q, k, v, *rest)
        return self._divided(sums), state

    def _divided(self, sums: Tensor) -> Tensor:
        return sums[..., :-1] / sums[..., -1:].clamp(min=self.least)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """As `rfa`, with weights that fade."""
        return Rfa.reference(self, q, k, v)

    def _reference_weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Times what is left at token i of what came in at token j."""
        score = torch.einsum("bhnd,hd->bhn", k, self.gate_weight) + self.gate_bias[:, None]
        gate = 1 / (1 + (-score).exp())
        left, rows = torch.zeros_like(gate), []
        for i in range(k.shape[-2]):
            arrives = torch.arange(k.shape[-2], device=k.device) == i
            left = left * gate[..., i : i + 1] + (1 - gate[..., i : i + 1]) * arrives
            rows.append(left)
        return super()._reference_weights(q, k) * torch.stack(rows, dim=-2)

    def flops(self, shape: CallShape) -> int:
        """As `rfa`: a gate scales, and adds no product."""
        return Rfa.flops(self, shape)


def _with_ones(v: Tensor) -> Tensor:
    """Values and a last column that sums the weights."""
    return functional.pad(v, (0, 1), value=1.0)


def gaussian_rows(num_features: int, dim: int, seed: int, head: int) -> Tensor:
    """(F, D) in float64, from a generator of its own: torch's global one is left alone."""
    generator = torch.Generator("cpu").manual_seed(zlib.crc32(f"{seed}/{head}".encode()))
    return torch.randn(num_features, dim, generator=generator, dtype=torch.float64, device="cpu")


def orthogonal_rows(num_features: int, dim: int, seed: int, head: int) -> Tensor:
    """(F, D) in float64, rows of a block of D at right angles to each other."""
    return orthogonal_gaussian(num_features, dim, unit_scale=False, seed=seed, draw=head)
