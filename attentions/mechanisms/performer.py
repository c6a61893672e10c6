"""Performer (FAVOR+): softmax attention estimated with positive random features."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .. import kernel as kernels
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_least, at_most, one_of, random_seed, whole
from ..maths.feature_maps import LOG2_E
from ..maths.kernel_attention import CHUNK, KernelState, causal_kernel_attention, kernel_flops
from ..maths.masks import hide_keys
from ..maths.orthogonal import orthogonal_gaussian
from ..maths.running_max import (
    RunningMaxState,
    running_max_attention,
    running_max_flops,
)
from ..precision import in_wide_precision, wide_dtype, widen, without_autocast
from ..registry import register_attention

_UNPROJECTED = "relu_unprojected"
Pull: TypeAlias = Callable[[Tensor], Tensor]
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
class Performer(Attention):
    """phi(q) (phi(k)^T v) / (phi(q) . sum phi(k)), with phi(q) . phi(k) near exp(q . k / sqrt(D)).

    With c = D^(-1/4), rows w_m of the projection and F features (Lemma 1 of the paper),

        softmax:  phi(x)_m = F^(-1/2) (exp(c w_m . x - c^2 ||x||^2 / 2 - max) + eps)
        relu:     phi(x)_m = relu(c w_m . x) + relu_eps
        relu_unprojected:  phi(x) = relu(x) + relu_eps

    The maximum is of c w . x, over the features for a query and over features and tokens for the
    keys; it passes no gradient.

    Causal, the output at position i is that of the bidirectional form on tokens 0..i: the maximum
    runs along with the keys. A query whose keys are all hidden gets zeros.

    The projection belongs to the state dict. The number of redraws does not: a restored model
    keeps its projection and starts to count anew.

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
        redraw_interval: forward calls in training mode between two projections; 0 for one
            projection for ever, which compiled code has in any case.
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
        self.eps, self.relu_eps = float(eps), float(relu_eps)
        self.ortho_scaling = one_of(self.name, "ortho_scaling", ortho_scaling, (0, 1))
        self.redraw_interval = whole(self.name, "redraw_interval", redraw_interval, 0)
        self.projection_seed = random_seed(self.name, "projection_seed", projection_seed)
        self.num_redraws = 0
        self._calls_since_draw = 0
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
        self._calls_since_draw = 0
        # A new tensor: graphs of earlier calls may still need the old one.
        self.projection = self._draw().to(self.projection.device, self.projection.dtype)

    def _count_call(self) -> None:
        # Compiled code keeps its projection: a count would be a new graph in each call.
        if not self.training or self.redraw_interval == 0 or torch.compiler.is_compiling():
            return
        if self._calls_since_draw == self.redraw_interval:
            self.redraw()
        self._calls_since_draw += 1

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        self._count_call()
        if self.geometry.causal and not self.is_relu:
            return self._causal(q, k, v, key_mask=key_mask)
        queries, keys = self._maps(wide_dtype(q.dtype))
        return kernels.attend(
            q, k, v, queries=queries, keys=keys, causal=self.geometry.causal, key_mask=key_mask
        )

    def _maps(self, dtype: torch.dtype) -> tuple[kernels.FeatureMap, kernels.FeatureMap]:
        """Without F^(-1/2), which cancels.

        They hold the projection as it is: a redraw changes nothing that is still to be
        differentiated.
        """
        with_rows = functools.partial(functools.partial, rows=self._rows(dtype))
        is_wide = self.num_features > 128
        if self.is_relu:
            rectified = kernels.FeatureMap(with_rows(self._rectified), is_wide=is_wide)
            return rectified, rectified
        queries = kernels.FeatureMap(
            with_rows(self._query_features), by_hand=with_rows(self._query_features_by_hand)
        )
        keys = kernels.FeatureMap(
            with_rows(_exponents),
            by_hand=with_rows(_exponents_by_hand),
            floor=self.eps,
            is_wide=is_wide,
        )
        return queries, keys

    def _rows(self, dtype: torch.dtype) -> Tensor:
        """All c w_m, times log2(e) for the softmax kernel: its exponents are to the base 2."""
        scale = 1 / math.sqrt(math.sqrt(self.geometry.head_dim))
        projection: Tensor = self.projection.to(dtype)
        # (1, F, D): one product per head is faster than a long one of a width like 266.
        return projection[None] * (scale if self.is_relu else scale * LOG2_E)

    def _rectified(self, x: Tensor, rows: Tensor) -> Tensor:
        projected: Tensor = x if self.kernel == _UNPROJECTED else x @ rows.mT
        return projected.relu() + self.relu_eps

    def _query_features(self, q: Tensor, rows: Tensor) -> Tensor:
        logits = q @ rows.mT
        peak = logits.detach().amax(dim=-1, keepdim=True)
        return (logits - (_half_square(q) + peak)).exp2_() + self.eps

    def _query_features_by_hand(self, q: Tensor, rows: Tensor) -> tuple[Tensor, Pull]:
        logits = q @ rows.mT
        above = logits.sub_(_half_square(q) + logits.amax(dim=-1, keepdim=True)).exp2_()
        pull = _pull_of_exponents(q, rows)
        return above + self.eps, lambda d_phi: pull(d_phi.mul_(above).mul_(math.log(2)))

    @in_wide_precision
    def _causal(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None) -> Tensor:
        state = self._no_past(*q.shape[:2], dtype=q.dtype, device=q.device)
        return self._continue(q, k, v, state, key_mask)[0]

    def query_features(self, q: Tensor) -> Tensor:
        """phi(q): (B, H, N, D) -> (B, H, N, F)."""
        if self.is_relu:
            return self._rectified(q, self._rows(q.dtype))
        return self._query_features(q, self._rows(q.dtype)) / math.sqrt(self.num_features)

    def key_features(self, k: Tensor) -> Tensor:
        """phi(k): (B, H, M, D) -> (B, H, M, F)."""
        if self.is_relu:
            return self._rectified(k, self._rows(k.dtype))
        exponents, s = _exponents(k, self._rows(k.dtype))
        phi = (exponents - s.amax(dim=-2, keepdim=True)).exp2_() + self.eps
        return phi / math.sqrt(self.num_features)

    def floor_share(self, k: Tensor) -> float | None:
        """How many of phi(k) lie within 1 % of the floor, from 0 to 1: such keys look alike.

        None for ReLU features, which are sparse by nature: the few that are not at the floor lie
        far above it.
        """
        if self.is_relu:
            return None
        floor = self.eps / math.sqrt(self.num_features)
        return (self.key_features(widen(k)) < 1.01 * floor).double().mean().item()

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """Zeros; float32 for half inputs."""
        return self._no_past(batch_size, self.geometry.num_heads, dtype=dtype, device=device)

    def _no_past(
        self, batch_size: int, num_heads: int, *, dtype: torch.dtype, device: torch.device
    ) -> Any:
        sizes = (batch_size, num_heads, self.num_features, self.geometry.value_dim)
        kind = KernelState if self.is_relu else RunningMaxState
        return kind.empty(sizes, dtype=wide_dtype(dtype), device=device)

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        with without_autocast(q.device.type):
            wide_q, wide_k, wide_v = widen(q), widen(k), widen(v)
            if self.is_relu:
                phi_q, phi_k = self.query_features(wide_q), self.key_features(wide_k)
                out, state = causal_kernel_attention(phi_q, phi_k, wide_v, 0.0, state)
            else:
                out, state = self._continue(wide_q, wide_k, wide_v, state, None)
        return out.to(q.dtype), state

    def _continue(
        self, q: Tensor, k: Tensor, v: Tensor, state: RunningMaxState, key_mask: Tensor | None
    ) -> tuple[Tensor, RunningMaxState]:
        """The features of one chunk at a time: they stay in the cache.

        A key's exponents are relative to its own largest, so that no key depends on a later one.
        """
        rows, outputs = self._rows(q.dtype), []
        for start in range(0, q.shape[2], CHUNK):
            of_q, of_k, of_v = (x[:, :, start : start + CHUNK] for x in (q, k, v))
            seen = None if key_mask is None else key_mask[:, start : start + CHUNK]
            exponents, s = _exponents(of_k, rows)
            if seen is not None:
                # A hidden key goes to the lowest finite number, which no maximum picks.
                lowest = torch.finfo(s.dtype).min
                exponents, s = (
                    x.masked_fill(~seen[:, None, :, None], lowest) for x in (exponents, s)
                )
            u = hide_keys(self.name, (exponents - s).exp2_(), seen)
            out, state = running_max_attention(
                self._query_features(of_q, rows),
                u,
                s[..., 0] * math.log(2),
                of_v,
                seen,
                eps=self.eps,
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
        phi_q = (logits_q - square_q - logits_q.detach().amax(-1, keepdim=True)).exp() + self.eps
        # exp(logits - maximum), the maximum taken in two parts: the key's own, and what a query's
        # maximum over the keys that it sees lies above it.
        own = logits_k.detach().amax(-1)  # (B, H, M)
        if self.geometry.causal:
            seen = own.cummax(-1).values[..., :, None]
        else:
            seen = own.amax(-1)[..., None, None]
        below = (own[..., None, :] - seen).clamp(max=0).exp()  # (B, H, N or 1, M)
        key = (logits_k - square_k - own[..., None]).exp()
        floor = self.eps * phi_q.sum(-1, keepdim=True)
        weights: Tensor = torch.einsum("bhnf,bhmf->bhnm", phi_q, key) * below + floor
        return weights

    def flops(self, shape: CallShape) -> int:
        """Both projections, and kernel attention with F features."""
        return self._projection_flops(shape) + kernel_flops(shape, self.num_features)

    def executed_flops(self, shape: CallShape) -> int:
        """The causal form also writes out the pairs within a chunk."""
        count = kernel_flops
        if shape.causal:
            count = kernels.causal_flops if self.is_relu else running_max_flops
        return self._projection_flops(shape) + count(shape, self.num_features)

    def _projection_flops(self, shape: CallShape) -> int:
        tokens = shape.num_tokens + shape.num_keys
        rows = 0 if self.kernel == _UNPROJECTED else self.num_features
        return 2 * tokens * shape.head_dim * rows


def _half_square(x: Tensor) -> Tensor:
    """c^2 ||x||^2 / 2 to the base 2, (..., N, 1)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm * norm * (LOG2_E / 2 / math.sqrt(x.shape[-1]))


def _exponents(k: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of key features, (..., M, F), and the largest c w_m . k, (..., M, 1); both to the base 2."""
    logits = k @ rows.mT
    return logits - _half_square(k), logits.detach().amax(dim=-1, keepdim=True)


def _exponents_by_hand(k: Tensor, rows: Tensor) -> tuple[tuple[Tensor, Tensor], Pull]:
    return _exponents(k, rows), _pull_of_exponents(k, rows)


def _pull_of_exponents(x: Tensor, rows: Tensor) -> Pull:
    def pull(d_exponents: Tensor) -> Tensor:
        along = d_exponents.sum(dim=-1, keepdim=True).mul_(LOG2_E / math.sqrt(x.shape[-1]))
        return (d_exponents @ rows).sub_(x * along)

    return pull
