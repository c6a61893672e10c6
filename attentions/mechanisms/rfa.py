"""Random feature attention: random Fourier features, with or without a gate that forgets."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import flag, one_of, positive, random_seed, whole
from ..engines.kernel import KernelCore
from ..maths.decay import chunked_flops, decayed_attention
from ..maths.feature_maps import direction
from ..maths.gates import ERASED, hide_steps
from ..maths.masks import hide_keys
from ..maths.orthogonal import orthogonal_gaussian
from ..precision import wide_dtype, widen, within_range, without_autocast
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

    def phi_q(self, q: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
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
class RfaGated(Rfa):
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

    shares_heads = False

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
        self.gate_weight = nn.Parameter(torch.zeros(geometry.num_heads, geometry.head_dim))
        self.gate_bias = nn.Parameter(torch.full((geometry.num_heads,), _GATE_BIAS))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        state = self.init_state(q.shape[0], dtype=q.dtype, device=q.device)
        return self._continue(q, k, v, state, key_mask)[0]

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """S with the sums of weights as its last column, (B, H, 2 F, E + 1), of zeros."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, self.feature_dim, g.value_dim + 1)
        return torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        return self._continue(q, k, v, state, None)

    def _continue(
        self, q: Tensor, k: Tensor, v: Tensor, state: Tensor, key_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        with without_autocast(q.device.type):
            dtype, (q, k, v) = q.dtype, (widen(x) for x in (q, k, v))
            phi_q, phi_k = self.query_features(q), self.key_features(k)
            score = self._score(k)
            fading = hide_steps(functional.logsigmoid(score).clamp(min=ERASED), key_mask)
            arriving = phi_k * (-score).sigmoid()[..., None]  # (1 - g_t) phi(k_t)
            arriving = hide_keys(self.name, arriving, key_mask)
            weighted = functional.pad(v, (0, 1), value=1.0)  # the last column sums the weights
            sums, state = decayed_attention(phi_q, arriving, weighted, fading, state)
            out = sums[..., :-1] / sums[..., -1:].clamp(min=self.least)
            return within_range(out, dtype), state

    def _score(self, k: Tensor) -> Tensor:
        """w_g . k_t + b_g: (B, H, N, D) -> (B, H, N)."""
        weight, bias = (widen(p).to(k.dtype) for p in (self.gate_weight, self.gate_bias))
        return (k * weight[:, None]).sum(dim=-1) + bias[:, None]

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

    def executed_flops(self, shape: CallShape) -> int:
        """With the pairs within a chunk written out, and weights summed as a value."""
        return self.map_flops(shape) + chunked_flops(self._of_features(shape))

    def _of_features(self, shape: CallShape) -> CallShape:
        return replace(shape, head_dim=self.feature_dim, value_dim=shape.value_dim + 1)


def gaussian_rows(num_features: int, dim: int, seed: int, head: int) -> Tensor:
    """(F, D) in float64, from a generator of its own: torch's global one is left alone."""
    generator = torch.Generator("cpu").manual_seed(zlib.crc32(f"{seed}/{head}".encode()))
    return torch.randn(num_features, dim, generator=generator, dtype=torch.float64, device="cpu")


def orthogonal_rows(num_features: int, dim: int, seed: int, head: int) -> Tensor:
    """(F, D) in float64, rows of a block of D at right angles to each other."""
    return orthogonal_gaussian(num_features, dim, unit_scale=False, seed=seed, draw=head)
