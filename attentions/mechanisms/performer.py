"""Performer (FAVOR+): softmax attention estimated with positive random features."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_least, at_most, one_of, random_seed, whole
from ..engines.kernel import KernelCore, Parts
from ..maths.feature_maps import exp_
from ..maths.orthogonal import orthogonal_gaussian
from ..maths.pairs.masks import hide_keys
from ..maths.running_max import CHUNK, RunningMaxState, running_max_attention, running_max_flops
from ..precision import in_wide_precision, wide_dtype, widen, without_autocast
from ..registry import register_attention

_UNPROJECTED = "relu_unprojected"
_KERNELS = ("softmax", "relu", _UNPROJECTED)
_LEAST_EPS = 1e-18
"""No weight is below eps^2, and their sum divides: the square of this is still a float32 number."""


@register_attention(
    "performer",
    title="Performer (FAVOR+)",
    source="Choromanski et al., 2021, arXiv:2009.14794",
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
        true_gradients=False,
    ),
)
class Performer(KernelCore):
    """phi(q) (phi(k)^T v) / (phi(q) . sum phi(k)), with phi(q) . phi(k) near exp(q . k / sqrt(D)).

    With c = D^(-1/4), rows w_m of the projection and F features (Lemma 1 of the paper),

        softmax:  phi(x)_m = F^(-1/2) (exp(c w_m . x - c^2 ||x||^2 / 2 - max) + eps)
        relu:     phi(x)_m = relu(c w_m . x) + relu_eps
        relu_unprojected:  phi(x) = relu(x) + relu_eps

    The maximum is of c w . x, over the features for a query and over features and tokens for the
    keys; it passes no gradient.

    Causal, the output at position i is that of the bidirectional form on tokens 0..i: the maximum
    runs along with the keys. A query whose keys are all hidden gets zeros.

    The projection stays until `redraw` draws the next one, which training calls now and then,
    between two steps. It belongs to the state dict; the number of redraws does not: a restored
    model keeps its projection and starts to count anew.

    Hazards:
        - Where all features fall below eps (norms of 50, say) the output becomes the mean of v.
        - It estimates softmax attention badly where scores are large: error falls slowly with the
          number of features and grows fast with the norms of queries and keys.
        - The squares of large inputs leave float16's range, so features are formed in float32.

    Differences:
        - Causal, performer-pytorch takes its maximum over all positions, so that later keys change
          earlier outputs; here the maximum runs along.
        - eps is 1e-4 in performer-pytorch and 1e-6 in Google's code: ``eps``, the latter's by
          default. It is part of the result, not only of its safety: keys whose features all lie
          below it look alike.
        - Google's ReLU kernel has no projection and no D^(-1/4) unless asked, performer-pytorch's
          has both: ``kernel="relu_unprojected"`` and ``"relu"``.
        - Google's code has 256 features by default, performer-pytorch int(D ln D):
          ``num_features``, here 128 by default. With ``eps=1e-4`` and ``num_features=None`` it is
          performer-pytorch's, the entry `performer_lucidrains`.
        - Google's JAX code can draw a projection at every call, seeded by the queries, and adds
          2e-6 to a sum of weights that is nearly zero. Neither is offered: here a draw depends on
          its seed alone, and the floors keep the sum above zero.

    Args:
        geometry: the shape to build for.
        num_features: F; int(D ln D) if None, and D without a projection.
        kernel: ``"softmax"``, ``"relu"``, or ``"relu_unprojected"``, which draws nothing and needs
            num_features=None.
        eps: the floor of softmax features. 1e-6 is that of Google's code, 1e-4 performer-pytorch's.
        relu_eps: the floor of ReLU features.
        ortho_scaling: 0 for rows as long as Gaussian vectors, 1 for all of length sqrt(D).
        redraw_interval: training steps after which whoever trains is to call `redraw`; 0 for one
            projection for ever. A call of the module never draws.
        projection_seed: seeds all projections.
    """

    projection: Tensor

    def __init__(
        self,
        geometry: Geometry,
        num_features: int | None = 128,
        kernel: str = "softmax",
        eps: float = 1e-6,
        relu_eps: float = 1e-3,
        ortho_scaling: int = 0,
        redraw_interval: int = 1000,
        projection_seed: int = 0,
    ) -> None:
        super().__init__(geometry)
        dim = geometry.head_dim
        self.kernel = one_of(self.name, "kernel", kernel, _KERNELS)
        self.is_relu = kernel != "softmax"
        if num_features is None:
            num_features = dim if kernel == _UNPROJECTED else max(1, int(dim * math.log(dim)))
        self.num_features = whole(self.name, "num_features", num_features, 1)
        if kernel == _UNPROJECTED:
            argument = f"num_features with kernel={kernel!r}"
            one_of(self.name, argument, num_features, (dim,))
        because = "since sums of its square divide"
        for argument, floor in (("eps", eps), ("relu_eps", relu_eps)):
            at_least(self.name, argument, floor, _LEAST_EPS, because=because)
            at_most(self.name, argument, floor, 1, because="as features are about 1 at most")
        self.softmax_eps, self.relu_eps = float(eps), float(relu_eps)
        self.floor = None if self.is_relu else self.softmax_eps
        self.feature_dim = self.num_features
        self.runs_along = geometry.causal and not self.is_relu  # the maximum of the keys does
        self.shares_heads = not self.runs_along
        self.ortho_scaling = one_of(self.name, "ortho_scaling", ortho_scaling, (0, 1))
        self.redraw_interval = whole(self.name, "redraw_interval", redraw_interval, 0)
        self.projection_seed = random_seed(self.name, "projection_seed", projection_seed)
        self.num_redraws = 0
        self.register_buffer("projection", self._draw().to(torch.get_default_dtype()))

    def _draw(self) -> Tensor:
        if self.kernel == _UNPROJECTED:
            return torch.empty(0, self.geometry.head_dim, device="cpu")
        return orthogonal_gaussian(
            self.num_features,
            self.geometry.head_dim,
            unit_scale=self.ortho_scaling == 1,
            seed=self.projection_seed,
            draw=self.num_redraws,
        )

    def redraw(self) -> None:
        """Take the next projection of the seed's series."""
        self.num_redraws += 1
        # A new tensor: graphs of earlier calls may still need the old one.
        self.projection = self._draw().to(self.projection.device, self.projection.dtype)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        if self.runs_along:
            return self._causal(q, k, v, key_mask=key_mask)
        return super().forward(q, k, v, key_mask=key_mask)

    def weights(self, dtype: torch.dtype) -> tuple[Tensor]:
        """C w_m for every head, (H, F, D), or no rows.

        A redraw changes nothing that is still to be differentiated: these rows stay as they are.
        """
        scale = 1 / math.sqrt(math.sqrt(self.geometry.head_dim))
        projection: Tensor = self.projection.to(dtype)
        return ((projection * scale).expand(self.geometry.num_heads, -1, -1),)

    def phi_q(self, q: Tensor, rows: Tensor) -> Tensor:
        """Without F^(-1/2), which cancels."""
        if self.is_relu:
            return self._projected(q, rows).relu() + self.relu_eps
        logits = self._projected(q, rows)
        peak = logits.detach().amax(dim=-1, keepdim=True)
        return exp_(logits - (_half_square(q) + peak)) + self.softmax_eps

    def phi_k(self, k: Tensor, rows: Tensor) -> Parts | Tensor:
        """ReLU features; or exponents, (..., M, F), and the largest c w_m . k, (..., M, 1)."""
        if self.is_relu:
            return self.phi_q(k, rows)
        logits = self._projected(k, rows)
        return logits - _half_square(k), logits.detach().amax(dim=-1, keepdim=True)

    def _projected(self, x: Tensor, rows: Tensor) -> Tensor:
        return x if self.kernel == _UNPROJECTED else x @ rows.transpose(-2, -1)

    @in_wide_precision
    def _causal(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None) -> Tensor:
        state = self.init_state(q.shape[0], dtype=q.dtype, device=q.device)
        return self._continue(q, k, v, state, key_mask)[0]

    def query_features(self, q: Tensor) -> Tensor:
        """phi(q): (B, H, N, D) -> (B, H, N, F)."""
        return super().query_features(q) * self._ratio

    def key_features(self, k: Tensor) -> Tensor:
        """phi(k): (B, H, M, D) -> (B, H, M, F)."""
        if self.is_relu:
            return super().key_features(k)
        exponents, s = self.phi_k(k, *self.weights(k.dtype))
        return ((exponents - s.amax(dim=-2, keepdim=True)).exp() + self.softmax_eps) * self._ratio

    @property
    def _ratio(self) -> float:
        return 1.0 if self.is_relu else 1 / math.sqrt(self.num_features)

    def floor_share(self, k: Tensor) -> float | None:
        """How many of phi(k) lie within 1 % of the floor, from 0 to 1: such keys look alike.

        None for ReLU features, which are sparse by nature: the few that are not at the floor lie
        far above it.
        """
        if self.is_relu:
            return None
        floor = self.softmax_eps * self._ratio
        return (self.key_features(widen(k)) < 1.01 * floor).double().mean().item()

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """Zeros; float32 for half inputs."""
        self._require_recurrent()
        if self.is_relu:
            return super().init_state(batch_size, dtype=dtype, device=device)
        g = self.geometry
        sizes = (batch_size, g.num_heads, self.num_features, g.value_dim)
        return RunningMaxState.empty(sizes, dtype=wide_dtype(dtype), device=device)

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: Any, *, key_mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        self._require_recurrent()
        if self.is_relu:
            return super().step(q, k, v, state, key_mask=key_mask)
        with without_autocast(q.device.type):
            out, state = self._continue(widen(q), widen(k), widen(v), state, key_mask)
        return out.to(q.dtype), state

    def _continue(
        self, q: Tensor, k: Tensor, v: Tensor, state: RunningMaxState, key_mask: Tensor | None
    ) -> tuple[Tensor, RunningMaxState]:
        """The features of one chunk at a time: they stay in the cache.

        A key's exponents are relative to its own largest, so that no key depends on a later one.
        """
        (rows,), outputs = self.weights(q.dtype), []
        for start in range(0, q.shape[2], CHUNK):
            of_q, of_k, of_v = (x[:, :, start : start + CHUNK] for x in (q, k, v))
            seen = None if key_mask is None else key_mask[:, start : start + CHUNK]
            exponents, s = self.phi_k(of_k, rows)
            if seen is not None:
                # A hidden key goes to the lowest finite number, which no maximum picks.
                lowest = torch.finfo(s.dtype).min
                exponents, s = (
                    x.masked_fill(~seen[:, None, :, None], lowest) for x in (exponents, s)
                )
            u = hide_keys(self.name, exp_(exponents - s), seen)
            out, state = running_max_attention(
                self.phi_q(of_q, rows),
                u,
                s[..., 0],
                of_v,
                seen,
                eps=self.softmax_eps,
                state=state,
            )
            outputs.append(out)
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)), state

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out, feature by feature and pair by pair."""
        weights = self._reference_weights(q, k)
        if self.geometry.causal:
            weights = weights.tril()
        return weights / weights.sum(dim=-1, keepdim=True) @ v

    def _reference_weights(self, q: Tensor, k: Tensor) -> Tensor:
        scale = q.shape[-1] ** -0.25
        rows, logits_q, logits_k = self.projection.to(q.dtype), q, k
        if self.kernel != _UNPROJECTED:
            logits_q, logits_k = (torch.einsum("bhnd,fd->bhnf", scale * x, rows) for x in (q, k))
        if self.is_relu:
            phi_q, phi_k = (x.clamp(min=0) + self.relu_eps for x in (logits_q, logits_k))
            return torch.einsum("bhnf,bhmf->bhnm", phi_q, phi_k)
        square_q, square_k = ((scale * x).pow(2).sum(-1, keepdim=True) / 2 for x in (q, k))
        phi_q = (
            logits_q - square_q - logits_q.detach().amax(-1, keepdim=True)
        ).exp() + self.softmax_eps
        # exp(logits - maximum), the maximum taken in two parts: the key's own, and what a query's
        # maximum over the keys that it sees lies above it.
        own = logits_k.detach().amax(-1)  # (B, H, M)
        if self.geometry.causal:
            seen = own.cummax(-1).values[..., :, None]
        else:
            seen = own.amax(-1)[..., None, None]
        below = (own[..., None, :] - seen).clamp(max=0).exp()  # (B, H, N or 1, M)
        key = (logits_k - square_k - own[..., None]).exp()
        floor = self.softmax_eps * phi_q.sum(-1, keepdim=True)
        weights: Tensor = torch.einsum("bhnf,bhmf->bhnm", phi_q, key) * below + floor
        return weights

    def map_flops(self, shape: CallShape) -> int:
        """Both projections."""
        rows = 0 if self.kernel == _UNPROJECTED else self.num_features
        return 2 * (shape.num_tokens + shape.num_keys) * shape.head_dim * rows

    def executed_flops(self, shape: CallShape) -> int:
        """The causal form also writes out the pairs within a chunk."""
        if not (self.runs_along and shape.causal):
            return super().executed_flops(shape)
        return self.map_flops(shape) + running_max_flops(shape, self.num_features)


def _half_square(x: Tensor) -> Tensor:
    """c^2 ||x||^2 / 2, (..., N, 1)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm * norm * (0.5 / math.sqrt(x.shape[-1]))
