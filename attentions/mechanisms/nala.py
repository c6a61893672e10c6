"""NaLa: norm-aware linear attention in its released form, as a core and as the authors' layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import _official
from .._engine import attention_by_tiles
from .._engine_forms import by_tiles, known_form, refuse_mask
from .._engine_kernel import Kernel
from .._engine_nala import NormAwareQueries, SignedPowers
from .._float16_layers import convolve, float16_in_float32, normalise, project
from ..base import Attention, AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_least, at_most, equal_lengths, fills_grid, one_of, positive
from ..maths.feature_maps import direction, norm_aware_power, sign_split
from ..maths.grid import depthwise, reference_depthwise
from ..maths.heads import merge_heads, split_heads
from ..maths.kernel_attention import (
    divide,
    kernel_flops,
    weight_sums,
    weighted_values,
)
from ..maths.masks import count_keys, hide_keys
from ..maths.rotary import reference_rotate, rope_if_it_fits, rotate, turns
from ..precision import in_wide_precision, wide_dtype
from ..registry import register_attention

_SOURCE = "Meng et al., 2026, NaLaFormer, arXiv:2506.21137"
_LEPE_SIZE = 5
_GREATEST = 32.0
"""Of powers: 16 to it is the first power of two that float32 does not hold."""


def check_powers(mechanism: str, lam: float, tau: float, key_power: float) -> None:
    """Refuse exponents below 1, or so large that entries of 1/16 and 16 leave float32."""
    lam, tau = positive(mechanism, "lam", lam), positive(mechanism, "tau", tau)
    because = "or gradients at zero are infinite"
    at_least(mechanism, "lam * tau (the least power)", lam * tau, 1, because=because)
    at_least(mechanism, "key_power", key_power, 1, because=because)
    because = "or features are no numbers of float32"
    greatest = lam * (tau + 1)
    at_most(mechanism, "lam * (tau + 1) (the greatest power)", greatest, _GREATEST, because=because)
    at_most(mechanism, "key_power", key_power, _GREATEST, because=because)


@register_attention(
    "nala",
    title="NaLa (norm-aware linear attention)",
    source=_SOURCE,
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Nala(Attention):
    """Linear attention that keeps the queries' norms and the signs of queries and keys.

        p(q)   = lam (tau + tanh ||q||)
        phi(q) = [relu(d)^p(q); relu(-d)^p(q)],  d = q / ||q||        (2 D features)
        phi(k) = [relu(k)^key_power; relu(-k)^key_power]
        out_i  = mean_j phi(q_i) . phi(k_j) v_j / (mean_j phi(q_i) . phi(k_j) + eps)

    With ``rope`` the features in the numerator are rotated by the token's place on the grid, those
    in the denominator are not: the weights may then be negative, and their sum is not 1.

    A query whose keys are all hidden gets zeros.

    Without ``rope`` any number of queries and keys will do; with it, both must be the area of the
    geometry's grid.

    Hazards:
        - A zero query has no direction: its features and its output are zero, and gradients are
          finite.
        - Where all keys are short, eps takes the output towards zero: at norms of 1e-6 it is 1e-14.
        - With ``rope`` it is no mean: weights may be negative and do not sum to 1, and constant
          values do not come back constant.
        - The power saturates: queries with norms well above 1 all have about lam (tau + 1), so with
          unit-variance channels the norms hardly matter.

    Differences:
        - This is the released form; the paper's first version is `nala_cosine`, whose cosine
          becomes this split of signs as its alpha grows.
        - A zero query gives NaN in the authors' code, and NaN gradients for all keys and values of
          the head; here it gives zeros.
        - The paper's first version names no lambda, no rotation and no eps; the released code has
          3, 2-D RoPE in the numerator, and 1e-6.

    Args:
        geometry: the shape to build for.
        rope: whether to rotate; head_dim must then be a multiple of 4.
        lam: scale of the queries' power.
        tau: its offset; lam * tau must be 1 or more, lam * (tau + 1) 32 or less.
        key_power: power of the keys, 1 to 32.
        eps: added to the mean weight.
        implementation: ``"auto"``, ``"plain"``, or ``"official"``: the authors' operators, which
            take no mask and have a key_power of 3; a zero query gives NaN there.
    """

    def __init__(
        self,
        geometry: Geometry,
        rope: bool = False,
        lam: float = 3.0,
        tau: float = 0.5,
        key_power: float = 3.0,
        eps: float = 1e-6,
        implementation: str = "auto",
    ) -> None:
        super().__init__(geometry)
        self.rope = rope_if_it_fits(self.name, rope, geometry.head_dim)
        check_powers(self.name, lam, tau, key_power)
        self.lam, self.tau, self.key_power = lam, tau, key_power
        self.eps = positive(self.name, "eps", eps)
        self.implementation = known_form(self.name, implementation)
        if implementation == "official":
            one_of(self.name, "key_power with implementation='official'", key_power, (3.0, 3))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        if self.rope:
            equal_lengths(self.name, q, k, "rope=True")
            fills_grid(self.name, q.shape[-2], self.geometry.grid)
        if self.implementation == "official":
            refuse_mask(self.name, key_mask)
            return self._official(q, k, v)
        if by_tiles(self.implementation, key_mask, q, k, v):
            return attention_by_tiles(self._kernel(q, k), q, k, v, plain=self._plain)
        return self._plain(q, k, v, key_mask=key_mask)

    @in_wide_precision
    def _plain(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        phi_q = self._query_features(q)
        phi_k = hide_keys(self.name, self._key_features(k), key_mask)
        normaliser = weight_sums(phi_q, phi_k) + self.eps * count_keys(k, key_mask)
        if self.rope:
            phi_q, phi_k = (rotate(phi, self.geometry.grid, q.shape[-1]) for phi in (phi_q, phi_k))
        return divide(weighted_values(phi_q, phi_k, v), normaliser)

    def _query_features(self, q: Tensor) -> Tensor:
        d, norm = direction(q)
        return sign_split(q, d.abs().pow(norm_aware_power(norm, self.lam, self.tau)))

    def _key_features(self, k: Tensor) -> Tensor:
        return sign_split(k, k.abs().pow(self.key_power))

    def _kernel(self, q: Tensor, k: Tensor) -> Kernel:
        dim = q.shape[-1]
        turn = None
        if self.rope:
            turn = turns(self.geometry.grid, dim, wide_dtype(q.dtype), q.device)
        return Kernel(
            queries=NormAwareQueries(self.lam, self.tau),
            keys=SignedPowers(self.key_power),
            num_features=2 * dim,
            eps=self.eps * k.shape[-2],
            turn=None if turn is None else turn[None],
        )

    @in_wide_precision
    def _official(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        table = None
        if self.rope:
            table = _official.angles(self.geometry.grid, q.shape[-1], q.dtype, q.device)
        return _official.nala(q, k, v, lam=self.lam, tau=self.tau, eps=self.eps, table=table)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out, from rectified halves."""
        norm = q.pow(2).sum(dim=-1, keepdim=True).sqrt()
        p = self.lam * (self.tau + norm.tanh())  # Eq. 8
        d = q / norm
        phi_q = torch.cat((d.relu() ** p, (-d).relu() ** p), dim=-1)
        phi_k = torch.cat((k.relu() ** self.key_power, (-k).relu() ** self.key_power), dim=-1)
        weights = phi_q @ phi_k.transpose(-2, -1) / k.shape[-2]
        normaliser = weights.sum(dim=-1, keepdim=True) + self.eps
        if self.rope:
            phi_q, phi_k = (
                reference_rotate(phi, self.geometry.grid, q.shape[-1]) for phi in (phi_q, phi_k)
            )
            weights = phi_q @ phi_k.transpose(-2, -1) / k.shape[-2]
        return weights @ v / normaliser

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with 2 D features."""
        return kernel_flops(shape, 2 * shape.head_dim)


@register_attention(
    "nala_layer",
    title="NaLa layer",
    source=_SOURCE,
    family="kernel",
    capabilities=Capabilities(
        needs_grid=True, position_free=False, heads_independent=False, scopes=("layer",)
    ),
)
class NalaLayer(AttentionLayer):
    """NaLa with its projections, local position encoding, norm and gate.

        q, k, v, g = qkvg(x)
        out = proj(norm(nala(q, k, v) + lepe(v)) * silu(g))

    On a processor, float16 tokens are computed in float32; what leaves float16's range stops at its
    largest number.

    Hazards:
        - Those of its core, `nala`; the norm behind it hides that weights do not sum to 1.

    Differences:
        - The released backbones have this layer in stages 1 and 2 only, and `nala_vanilla` in
          stages 3 and 4: their accuracies are not those of this mechanism alone.
        - The authors' code has a local position encoding that the paper's first version does not
          name.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        rope: as for `Nala`, but on unless said otherwise.
        lam: as for `Nala`.
        tau: as for `Nala`.
        key_power: as for `Nala`.
        eps: as for `Nala`.
        implementation: of the core, as for `Nala`.
    """

    def __init__(
        self,
        geometry: Geometry,
        rope: bool = True,
        lam: float = 3.0,
        tau: float = 0.5,
        key_power: float = 3.0,
        eps: float = 1e-6,
        implementation: str = "auto",
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        self.core = Nala(geometry, rope, lam, tau, key_power, eps, implementation)
        channels = geometry.embed_dim
        self.qkvg = nn.Linear(channels, 4 * channels)
        self.lepe = depthwise(channels, _LEPE_SIZE)
        self.norm = nn.LayerNorm(channels)
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        fills_grid(self.name, x.shape[1], self.geometry.grid)
        q, k, v, gate = project(x, self.qkvg).chunk(4, dim=-1)
        mixed = self.core(*(split_heads(part, self.geometry.num_heads) for part in (q, k, v)))
        local = convolve(v, self.lepe, self.geometry.grid)
        normed = normalise(merge_heads(mixed) + local, self.norm)
        return project(normed * functional.silu(gate), self.proj)

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference, with convolution, norm and gate written out."""
        q, k, v, gate = self.qkvg(x).chunk(4, dim=-1)
        heads = (split_heads(part, self.geometry.num_heads) for part in (q, k, v))
        mixed = merge_heads(self.core.reference(*heads))
        mixed = mixed + reference_depthwise(v, self.lepe, self.geometry.grid)
        centred = mixed - mixed.mean(dim=-1, keepdim=True)
        spread = (centred.pow(2).mean(dim=-1, keepdim=True) + self.norm.eps).sqrt()
        normed = centred / spread * self.norm.weight + self.norm.bias
        return self.proj(normed * gate / (1 + (-gate).exp()))  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, depthwise convolution and the core."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        project = 2 * tokens * channels * 5 * channels
        return project + 2 * tokens * channels * _LEPE_SIZE**2 + self.core.flops(shape)
