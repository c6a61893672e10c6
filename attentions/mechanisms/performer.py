"""Performer (FAVOR+): softmax attention estimated with positive random features."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from .. import _official
from .._by_heads import by_heads
from .._engine import attention_by_tiles
from .._engine_causal import causal_flops
from .._engine_forms import by_tiles, known_form, refuse_mask
from .._engine_kernel import Kernel
from .._engine_performer import PositiveKeys, PositiveQueries, RandomProjection, RectifiedFeatures
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_least, at_most, equal_lengths, one_of, random_seed, whole
from ..maths.kernel_attention import (
    CHUNK,
    KernelState,
    causal_kernel_attention,
    chunked_kernel_flops,
    kernel_attention,
    kernel_flops,
)
from ..maths.masks import check_key_mask, hide_keys
from ..maths.orthogonal import orthogonal_gaussian
from ..maths.running_max import (
    RunningMaxState,
    running_max_attention,
    running_max_flops,
)
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
        - eps is 1e-4 in performer-pytorch and 1e-6 in Google's code: ``eps``, the former's by
          default. It is part of the result, not only of its safety.
        - Google's ReLU kernel has no projection and no D^(-1/4) unless asked, performer-pytorch's
          has both: ``kernel="relu_unprojected"`` and ``"relu"``.
        - Google's code has 256 features by default, performer-pytorch int(D ln D):
          ``num_features``, the latter's by default.
        - Google's JAX code can draw a projection at every call, seeded by the queries, and adds
          2e-6 to a sum of weights that is nearly zero. Neither is offered: here a draw depends on
          its seed alone, and the floors keep the sum above zero.

    Args:
        geometry: the shape to build for.
        num_features: F; int(D ln D) if None, and D without a projection.
        kernel: ``"softmax"``, ``"relu"``, or ``"relu_unprojected"``, which draws nothing.
        eps: the floor of softmax features. 1e-4 is that of performer-pytorch, 1e-6 Google's.
        relu_eps: the floor of ReLU features.
        ortho_scaling: 0 for rows as long as Gaussian vectors, 1 for all of length sqrt(D).
        redraw_interval: forward calls in training mode between two projections; 0 for one
            projection for ever.
        projection_seed: seeds all projections.
        implementation: ``"auto"``, ``"plain"``, or ``"official"``: the operators of
            performer-pytorch, which take no mask and project always. Its causal form sees the
            future through the keys' maximum, and is not offered.
    """

    projection: Tensor

    def __init__(
        self,
        geometry: Geometry,
        num_features: int | None = None,
        kernel: str = "softmax",
        eps: float = 1e-4,
        relu_eps: float = 1e-3,
        ortho_scaling: int = 0,
        redraw_interval: int = 1000,
        projection_seed: int = 0,
        implementation: str = "auto",
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
        self.implementation = known_form(self.name, implementation)
        if implementation == "official" and geometry.causal:
            raise ValueError(
                f"{self.name}: implementation is 'official' and the geometry causal; 'auto' or "
                "'plain' is needed, as that code's causal form sees the future."
            )
        if implementation == "official":
            why = "kernel with implementation='official'"
            one_of(self.name, why, kernel, ("softmax", "relu"))
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
        if not self.training or self.redraw_interval == 0:
            return
        if self._calls_since_draw == self.redraw_interval:
            self.redraw()
        self._calls_since_draw += 1

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        self._count_call()
        if self.geometry.causal:
            equal_lengths(self.name, q, k, "the causal form")
        if self.implementation == "official":
            refuse_mask(self.name, key_mask)
            return self._official(q, k, v)
        if self._has_tiles(self.geometry.causal) and by_tiles(
            self.implementation, key_mask, q, k, v
        ):
            # A redraw must not change what is still to be differentiated.
            plain = functools.partial(self._plain, projection=self.projection)
            return attention_by_tiles(self._kernel(q), q, k, v, plain=plain)
        if self.geometry.causal and by_tiles(self.implementation, key_mask, q, k, v):
            causal = functools.partial(self._causal, projection=self.projection)
            return by_heads(
                causal, q, k, v, num_features=self.num_features, in_chunks=not self.is_relu
            )
        return self._plain(q, k, v, key_mask=key_mask)

    def _has_tiles(self, causal: bool) -> bool:
        """Whether the engine knows the features; causal, not those with a running maximum."""
        return self.kernel == "relu" or (self.kernel == "softmax" and not causal)

    @in_wide_precision
    def _plain(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        key_mask: Tensor | None = None,
        projection: Tensor | None = None,
    ) -> Tensor:
        if self.geometry.causal:
            state = self._no_past(*q.shape[:2], dtype=q.dtype, device=q.device)
            return self._continue(q, k, v, state, key_mask, projection)[0]
        phi_q = self.query_features(q, projection)
        return kernel_attention(phi_q, self.key_features(k, key_mask, projection), v)

    @in_wide_precision
    def _causal(self, q: Tensor, k: Tensor, v: Tensor, *, projection: Tensor) -> Tensor:
        state = self._no_past(*q.shape[:2], dtype=q.dtype, device=q.device)
        return self._continue_in_chunks(q, k, v, state, projection)[0]

    def _continue_in_chunks(
        self, q: Tensor, k: Tensor, v: Tensor, state: Any, projection: Tensor | None
    ) -> tuple[Tensor, Any]:
        """As `_continue`, but with softmax features of one chunk at a time, in a near cache."""
        if self.is_relu:
            return self._continue(q, k, v, state, None, projection)
        outputs = []
        for of_q, of_k, of_v in zip(*(x.split(CHUNK, dim=2) for x in (q, k, v)), strict=True):
            out, state = self._continue(of_q, of_k, of_v, state, None, projection)
            outputs.append(out)
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)), state

    def _kernel(self, q: Tensor) -> Kernel:
        dtype = wide_dtype(q.dtype)
        features = RectifiedFeatures(RandomProjection.of(self.projection, dtype), self.relu_eps)
        if self.is_relu:
            return Kernel(
                queries=features,
                keys=features,
                num_features=self.num_features,
                eps=0.0,
                causal=self.geometry.causal,
            )
        return Kernel(
            queries=PositiveQueries.of(self.projection, dtype, self.eps),
            keys=PositiveKeys.of(self.projection, dtype, self.eps),
            num_features=self.num_features,
            eps=0.0,
        )

    def _official(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        projection = self.projection.to(q.dtype)
        eps = self.relu_eps if self.is_relu else self.eps
        return _official.performer(q, k, v, projection, kernel=self.kernel, eps=eps)

    def query_features(self, q: Tensor, projection: Tensor | None = None) -> Tensor:
        """phi(q): (B, H, N, D) -> (B, H, N, F); by another projection than the current if given."""
        projected = self._project(q, projection)
        if self.is_relu:
            return projected.relu() + self.relu_eps
        peak = projected.detach().amax(dim=-1, keepdim=True)
        return self._scaled(projected.sub_(self._half_square(q) + peak).exp_() + self.eps)

    def key_features(
        self, k: Tensor, key_mask: Tensor | None = None, projection: Tensor | None = None
    ) -> Tensor:
        """phi(k): (B, H, M, D) -> (B, H, M, F); zeros for a hidden key, which sets no maximum."""
        projected = self._project_keys(k, key_mask, projection)
        if self.is_relu:
            return hide_keys(self.name, projected.relu() + self.relu_eps, key_mask)
        peak = projected.detach().amax(dim=(-2, -1), keepdim=True)
        phi = self._scaled(projected.sub_(self._half_square(k) + peak).exp_() + self.eps)
        return hide_keys(self.name, phi, key_mask)

    def _project(self, x: Tensor, projection: Tensor | None) -> Tensor:
        if self.kernel == _UNPROJECTED:
            return x
        scale = math.sqrt(math.sqrt(1 / self.geometry.head_dim))
        rows = self.projection if projection is None else projection
        return (x * scale) @ rows.to(x.dtype).T  # c w_m . x

    def _project_keys(
        self, k: Tensor, key_mask: Tensor | None, projection: Tensor | None
    ) -> Tensor:
        projected = self._project(k, projection)
        if key_mask is None:
            return projected
        check_key_mask(self.name, key_mask, k)
        # A hidden key goes to the lowest finite number, which no maximum picks.
        lowest = torch.finfo(projected.dtype).min
        return projected.masked_fill(~key_mask[:, None, :, None], lowest)

    def _half_square(self, x: Tensor) -> Tensor:
        scale = math.sqrt(1 / self.geometry.head_dim)
        return x.square().sum(dim=-1, keepdim=True) * (scale / 2)  # c^2 ||x||^2 / 2

    def _scaled(self, features: Tensor) -> Tensor:
        """In place, as are the steps before where autograd keeps nothing of what was there."""
        return features.mul_(math.sqrt(1 / self.num_features))

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
            out, state = self._continue_in_chunks(widen(q), widen(k), widen(v), state, None)
        return out.to(q.dtype), state

    def _continue(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: Any,
        key_mask: Tensor | None,
        projection: Tensor | None,
    ) -> tuple[Tensor, Any]:
        phi_q = self.query_features(q, projection)
        if self.is_relu:
            phi_k = self.key_features(k, key_mask, projection)
            return causal_kernel_attention(phi_q, phi_k, v, 0.0, state)
        projected = self._project_keys(k, key_mask, projection)
        # Key by key, so that no key knows of a later one.
        s = projected.detach().amax(dim=-1)  # (B, H, M)
        u = projected.sub_(self._half_square(k) + s[..., None]).exp_()
        if key_mask is not None:
            u = hide_keys(self.name, u, key_mask)
        return running_max_attention(phi_q, u, s, v, key_mask, eps=self.eps, state=state)

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
        if not shape.causal:
            return self.flops(shape)
        chunked = running_max_flops
        if self.is_relu:
            in_tiles = self.implementation == "auto" and self._has_tiles(shape.causal)
            chunked = causal_flops if in_tiles else chunked_kernel_flops
        return self._projection_flops(shape) + chunked(shape, self.num_features)

    def _projection_flops(self, shape: CallShape) -> int:
        tokens = shape.num_tokens + shape.num_keys
        rows = 0 if self.kernel == _UNPROJECTED else self.num_features
        return 2 * tokens * shape.head_dim * rows
