"""PolaFormer: like and unlike signs of queries and keys kept apart, as a core and as a layer."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import _official
from .._engine import attention_by_tiles
from .._engine_forms import by_tiles, known_form, official_layout, refuse_mask
from .._engine_functions import log_base
from .._engine_kernel import Kernel
from .._engine_polaformer import LearnedPowers, like_and_unlike
from .._engine_threads import alone_if_threads_sleep
from .._float16_layers import add, convolve, float16_in_float32, project, reduce
from .._in_float64 import is_finite
from .._large_powers import attention_of_exponents, exponents, hidden
from .._ordinary import is_ordinary
from ..base import Attention, AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_most, fills_grid, flag, odd_width, one_of, positive
from ..maths.grid import depthwise, reference_depthwise
from ..maths.heads import merge_heads, split_heads
from ..maths.kernel_attention import kernel_flops
from ..maths.masks import count_keys, hide_keys
from ..maths.reduced_grid import ReducedGrid, reference_stretch, stretch
from ..precision import wide_dtype, widen, without_autocast
from ..registry import register_attention

_SOURCE = "Meng et al., 2025, arXiv:2501.15061"
_GREATEST_ALPHA = 256.0
"""Powers of up to 257 of the largest and the smallest floats are exponents of `_large_powers`."""


@register_attention(
    "polaformer",
    title="PolaFormer (polarity-aware linear attention)",
    source=_SOURCE,
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Polaformer(Attention):
    """Linear attention in which half of v follows like signs, and half unlike signs.

        x+     = relu(x / softplus(scale))^p,  x- = relu(-x / softplus(scale))^p
        p      = 1 + alpha sigmoid(power)
        same   = q+ . k+ + q- . k-
        unlike = q+ . k- + q- . k+
        out_i  = [mean_j same_ij v1_j / (mean_j same_ij + eps);
                  mean_j unlike_ij v2_j / (mean_j unlike_ij + eps)]

    where v1 and v2 are the first and second half of v's channels. ``scale``, one value per channel,
    and ``power``, one per channel of a head, are learned; p starts at 1 + alpha / 2. The paper's
    two gates G^s and G^o multiply the halves: they are a function of the layer's input, see
    `PolaformerLayer`.

    A query whose keys are all hidden gets zeros. On a processor, entries whose powers overflow
    (some 1e4 for a power of 5) are computed again, slower, in float64; those of which powers are no
    numbers even there (1e30), from logarithms.

    Hazards:
        - A zero query or key has no features. Where all products are far below ``eps`` (norms of
          1e-6) the output goes to zero.
        - Half of the values is mixed by unlike signs alone: where signs all agree, that half of the
          output is zero.

    Differences:
        - The paper has two gates on the halves, the authors' code one linear gate on both, which
          says the same: see `polaformer_layer`.
        - The learned ``scale`` is in the authors' code and not in the paper.

    Args:
        geometry: the shape to build for.
        alpha: p lies between 1 and 1 + alpha; 256 at most.
        eps: added to the mean weights.
        implementation: ``"auto"``, ``"plain"``, or ``"official"``: the authors' operators, which
            take no mask.
    """

    def __init__(
        self,
        geometry: Geometry,
        alpha: float = 4,
        eps: float = 1e-6,
        implementation: str = "auto",
    ) -> None:
        super().__init__(geometry)
        self.implementation = known_form(self.name, implementation)
        if implementation == "official":
            official_layout(self, "bnhd")
        because = "or features are no numbers of float32"
        self.alpha = at_most(
            self.name,
            "alpha",
            positive(self.name, "alpha", alpha),
            _GREATEST_ALPHA,
            because=because,
        )
        self.eps = positive(self.name, "eps", eps)
        self.scale = nn.Parameter(torch.zeros(geometry.embed_dim))
        self.power = nn.Parameter(torch.zeros(geometry.num_heads, geometry.head_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        if self.implementation == "official":
            refuse_mask(self.name, key_mask)
            return self._official(q, k, v)
        dtype = wide_dtype(q.dtype)
        power = 1 + self.alpha * widen(self.power).to(dtype).sigmoid()[:, None]  # (H, 1, D)
        scale = functional.softplus(widen(self.scale).to(dtype)).view(power.shape)
        if by_tiles(self.implementation, key_mask, q, k, v):
            kernel = self._kernel(q, k, v)
            with alone_if_threads_sleep():
                c = power * scale.log() * log_base(math.e)  # b^c = scale^p
            return attention_by_tiles(kernel, q, k, v, power, c, plain=self._by_exponent)
        return self._plain(q, k, v, power, scale, key_mask)

    @staticmethod
    def _first(v: Tensor) -> int:
        """Channels of v that follow like signs."""
        return -(-v.shape[-1] // 2)

    def _kernel(self, q: Tensor, k: Tensor, v: Tensor) -> Kernel:
        features = LearnedPowers()
        return Kernel(
            queries=features,
            keys=features,
            num_features=2 * q.shape[-1],
            eps=self.eps * k.shape[-2],
            gather=like_and_unlike(self._first(v)),
        )

    def _by_exponent(self, q: Tensor, k: Tensor, v: Tensor, power: Tensor, c: Tensor) -> Tensor:
        return self._plain(q, k, v, power, (c / (power * log_base(math.e))).exp(), None)

    def _official(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tokens_q, tokens_k, tokens_v = (merge_heads(x) for x in (q, k, v))
        return _official.polaformer(
            tokens_q,
            tokens_k,
            tokens_v,
            self.scale.to(q.dtype),
            self.power.to(q.dtype),
            alpha=self.alpha,
            eps=self.eps,
        )

    def _plain(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        power: Tensor,
        scale: Tensor,
        key_mask: Tensor | None,
    ) -> Tensor:
        with without_autocast(q.device.type):
            mixed = self._in_wide(widen(q), widen(k), widen(v), power, scale, key_mask)
        # In other dtypes what is not finite is computed once more in this one (`_in_float64`).
        if q.dtype != torch.float64 or not is_ordinary(q, k, v) or is_finite(mixed):
            return mixed.to(q.dtype)
        return self._by_exponents(q, k, v, power, scale, key_mask)

    def _by_exponents(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        power: Tensor,
        scale: Tensor,
        key_mask: Tensor | None,
    ) -> Tensor:
        """The same for entries so large that powers overflow."""
        first = self._first(v)
        with without_autocast(q.device.type):
            a, b = (exponents(widen(x), power, scale) for x in (q, k))
            b, values, seen = hidden(b, key_mask), widen(v), count_keys(widen(k), key_mask)
            like = attention_of_exponents(a, b, values[..., :first], self.eps, seen)
            a = a.roll(q.shape[-1], dims=-1)  # q+ meets k-, and q- meets k+
            unlike = attention_of_exponents(a, b, values[..., first:], self.eps, seen)
            return torch.cat((like, unlike), dim=-1).to(q.dtype)

    def _in_wide(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        power: Tensor,
        scale: Tensor,
        key_mask: Tensor | None,
    ) -> Tensor:
        dim, first = q.shape[-1], self._first(v)
        phi_q, phi_k = self._features(q, power), self._features(k, power)
        phi_k = hide_keys(self.name, phi_k, key_mask)

        # Both features of a pair are divided by scale^p: so can be what the keys leave behind.
        divisor = scale.pow(2 * power).repeat(1, 1, 2).transpose(-2, -1)  # (H, 2 D, 1)
        context = phi_k.transpose(-2, -1) @ v / divisor  # (B, H, 2 D, E)
        sums = phi_k.sum(dim=-2).unsqueeze(-1) / divisor
        # q+ meets k- where the halves of the keys' features change places. Those of what the keys
        # leave behind can do so instead, and one product serves both.
        context = torch.cat((context[..., :first], context[..., first:].roll(dim, dims=-2)), dim=-1)
        sums = torch.cat((sums, sums.roll(dim, dims=-2)), dim=-1)  # (B, H, 2 D, 2)
        numerator = phi_q @ context
        normaliser = phi_q @ sums + self.eps * count_keys(k, key_mask)
        return torch.cat(
            (
                numerator[..., :first] / normaliser[..., :1],
                numerator[..., first:] / normaliser[..., 1:],
            ),
            dim=-1,
        )

    @staticmethod
    def _features(x: Tensor, power: Tensor) -> Tensor:
        """[x+; x-], by one power for both: (B, H, N, D) -> (B, H, N, 2 D)."""
        signed = torch.copysign(x.abs().pow(power), x)
        both = signed.unsqueeze(-2) * signed.new_tensor([[1.0], [-1.0]])
        return both.relu_().flatten(-2)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Both N x M matrices of weights written out."""
        heads = q.shape[1]
        scale = (1 + self.scale.to(q.dtype).exp()).log().reshape(heads, 1, -1)
        power = 1 + self.alpha / (1 + (-self.power.to(q.dtype)[:, None]).exp())
        q_plus, q_minus = ((sign * q / scale).clamp(min=0) ** power for sign in (1, -1))
        k_plus, k_minus = ((sign * k / scale).clamp(min=0) ** power for sign in (1, -1))
        same = q_plus @ k_plus.mT + q_minus @ k_minus.mT
        unlike = q_plus @ k_minus.mT + q_minus @ k_plus.mT
        out = []
        for weights, values in zip((same, unlike), v.tensor_split(2, dim=-1), strict=True):
            share = weights / k.shape[-2]
            out.append(share @ values / (share.sum(dim=-1, keepdim=True) + self.eps))
        return torch.cat(out, dim=-1)

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with 2 D features, and a second normaliser."""
        features = 2 * shape.head_dim
        return kernel_flops(shape, features) + 2 * features * shape.num_tokens


@register_attention(
    "polaformer_layer",
    title="PolaFormer layer",
    source=_SOURCE,
    family="kernel",
    capabilities=Capabilities(
        needs_grid=True, position_free=False, heads_independent=False, scopes=("layer",)
    ),
)
class PolaformerLayer(AttentionLayer):
    """PolaFormer with its projections, position encoding, depthwise convolution and gate.

        q, g = qg(x);  k, v = kv(x)
        out = proj((polaformer(q, k + positional_encoding, v) + dwc(v)) * g)

    The gate is linear. Over the two halves of a head's channels it is what the paper writes as
    G^s and G^o. The depthwise convolution has one kernel per channel of a head, the same for every
    head. With ``sr_ratio`` r > 1 keys and values come from the grid shrunk by r in both
    directions, and for the convolution v is stretched back along the flattened grid, as in the
    authors' code. On a processor, float16 tokens are computed in float32; what leaves float16's
    range stops at its largest number.

    Hazards:
        - Those of its core, `polaformer`.
        - With ``sr_ratio`` above 1 the convolution's values are stretched along the flattened grid,
          as in `flatten_layer`.

    Differences:
        - The authors' Swin form takes the mask of shifted windows and does not use it; there is no
          such argument here.
        - The released PolaFormer-Swin has this layer in its first two stages only.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        alpha: as for `Polaformer`.
        eps: as for `Polaformer`.
        kernel_size: width of the depthwise kernels, odd.
        sr_ratio: r; must divide both sides of the grid.
        qkv_bias: whether qg and kv have a bias.
        implementation: of the core, as for `Polaformer`.
    """

    def __init__(
        self,
        geometry: Geometry,
        alpha: float = 4,
        eps: float = 1e-6,
        kernel_size: int = 5,
        sr_ratio: int = 1,
        qkv_bias: bool = True,
        implementation: str = "auto",
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        flag(self.name, "qkv_bias", qkv_bias)
        odd_width(self.name, "kernel_size", kernel_size)
        channels = geometry.embed_dim
        self.core = Polaformer(geometry, alpha, eps, implementation)
        self.reduced = ReducedGrid(self.name, channels, geometry.grid, sr_ratio)
        self.qg = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        self.kv = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        num_keys = geometry.seq_len // sr_ratio**2
        self.positional_encoding = nn.Parameter(torch.zeros(num_keys, channels))
        self.dwc = depthwise(geometry.head_dim, kernel_size)
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        fills_grid(self.name, x.shape[1], self.geometry.grid)
        q, gate = project(x, self.qg).chunk(2, dim=-1)
        k, v = project(reduce(x, self.reduced), self.kv).chunk(2, dim=-1)
        placed = add(k, self.positional_encoding)
        mixed = self.core(*(self._split(part) for part in (q, placed, v)))
        heads = self._split(stretch(v, x.shape[1]))
        restored = convolve(heads.flatten(0, 1), self.dwc, self.geometry.grid)
        mixed = mixed + torch.unflatten(restored, 0, heads.shape[:2])
        return project(merge_heads(mixed) * gate, self.proj)

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.geometry.num_heads)

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference, with patches, kernels and interpolation written out."""
        q, gate = self.qg(x).chunk(2, dim=-1)
        k, v = self.kv(self.reduced.reference(x)).chunk(2, dim=-1)
        mixed = self.core.reference(
            *(self._split(part) for part in (q, k + self.positional_encoding, v))
        )
        heads = self._split(reference_stretch(v, x.shape[1]))
        restored = [
            reference_depthwise(head, self.dwc, self.geometry.grid) for head in heads.unbind(1)
        ]
        return self.proj(merge_heads(mixed + torch.stack(restored, dim=1)) * gate)  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, shrinking convolution, the core and depthwise convolution."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        r = self.reduced.ratio
        project = 2 * channels**2 * (3 * tokens + 2 * tokens // r**2)
        restore = 2 * channels * self.dwc.weight.shape[-1] ** 2 * tokens
        core = self.core.flops(replace(shape, key_len=shape.key_len // r**2))
        return project + self.reduced.flops(tokens, channels) + restore + core
