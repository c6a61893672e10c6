"""PolaFormer: like and unlike signs of queries and keys kept apart, as a core and as a layer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ._checks import fills_grid, flag, one_of, positive, whole
from ._grid import convolve_on_grid, depthwise, reference_depthwise
from ._heads import merge_heads, split_heads
from ._kernel_attention import kernel_elements, kernel_flops
from ._masks import count_keys, hide_keys
from ._precision import in_wide_precision, widen
from ._reduced_grid import ReducedGrid, reference_stretch, stretch
from .base import Attention, AttentionLayer, CallShape, Geometry
from .capabilities import Capabilities
from .registry import register_attention

_SOURCE = "Meng et al., 2025, arXiv:2501.15061"


@register_attention(
    "polaformer",
    title="PolaFormer (polarity-aware linear attention)",
    source=_SOURCE,
    capabilities=Capabilities(cross=True, masks=frozenset({"padding"})),
)
class Polaformer(Attention):
    """Linear attention in which half of v follows like signs, and half unlike signs.

        x+     = relu(x / softplus(scale))^p,  x- = relu(-x / softplus(scale))^p
        p      = 1 + alpha sigmoid(power)
        same   = q+ . k+ + q- . k-
        unlike = q+ . k- + q- . k+
        out_i  = [mean_j same_ij v1_j / (mean_j same_ij + eps);
                  mean_j unlike_ij v2_j / (mean_j unlike_ij + eps)]

    where v1 and v2 are the first and second half of v's channels. ``scale``, one value per
    channel, and ``power``, one per channel of a head, are learned; p starts at 1 + alpha / 2. The
    paper's two gates G^s and G^o multiply the halves: they are a function of the layer's input, see
    `PolaformerLayer`. ``scale`` is the authors' code's.

    A zero query or key has no features. Where all products are far below ``eps`` (norms of 1e-6)
    the output goes to zero. A query whose keys are all hidden gets zeros.

    Args:
        geometry: the shape to build for.
        alpha: p lies between 1 and 1 + alpha.
        eps: added to the mean weights.
    """

    def __init__(self, geometry: Geometry, alpha: float = 4, eps: float = 1e-6) -> None:
        super().__init__(geometry)
        self.alpha = positive(self.name, "alpha", alpha)
        self.eps = positive(self.name, "eps", eps)
        self.scale = nn.Parameter(torch.zeros(geometry.embed_dim))
        self.power = nn.Parameter(torch.zeros(geometry.num_heads, geometry.head_dim))

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        dim, first = q.shape[-1], -(-v.shape[-1] // 2)  # channels of v that follow like signs
        power = 1 + self.alpha * widen(self.power).to(q.dtype).sigmoid()[:, None]  # (H, 1, D)
        scale = functional.softplus(widen(self.scale).to(q.dtype)).view(power.shape)
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

    def extra_elements(self, shape: CallShape, *, backward: bool) -> int:
        """Inputs in float32, features with the steps towards them, and output."""
        features, maps = 2 * shape.head_dim, 3 if backward else None
        return kernel_elements(shape, features, forward_maps=1.5, backward_maps=maps)


@register_attention(
    "polaformer_layer",
    title="PolaFormer layer",
    source=_SOURCE,
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
    authors' code.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        alpha: as for `Polaformer`.
        eps: as for `Polaformer`.
        kernel_size: width of the depthwise kernels, odd.
        sr_ratio: r; must divide both sides of the grid.
        qkv_bias: whether qg and kv have a bias.
    """

    def __init__(
        self,
        geometry: Geometry,
        alpha: float = 4,
        eps: float = 1e-6,
        kernel_size: int = 5,
        sr_ratio: int = 1,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        flag(self.name, "qkv_bias", qkv_bias)
        if whole(self.name, "kernel_size", kernel_size, 1) % 2 == 0:
            raise ValueError(f"{self.name}: kernel_size is {kernel_size}; an odd number is needed.")
        channels = geometry.embed_dim
        self.core = Polaformer(geometry, alpha, eps)
        self.reduced = ReducedGrid(self.name, channels, geometry.grid, sr_ratio)
        self.qg = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        self.kv = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        num_keys = geometry.seq_len // sr_ratio**2
        self.positional_encoding = nn.Parameter(torch.zeros(num_keys, channels))
        self.dwc = depthwise(geometry.head_dim, kernel_size)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        fills_grid(self.name, x.shape[1], self.geometry.grid)
        (q, gate), (k, v) = (
            part.chunk(2, dim=-1) for part in (self.qg(x), self.kv(self.reduced(x)))
        )
        mixed = self.core(*(self._split(part) for part in (q, k + self.positional_encoding, v)))
        heads = self._split(stretch(v, x.shape[1]))
        restored = convolve_on_grid(heads.flatten(0, 1), self.dwc, self.geometry.grid)
        mixed = mixed + torch.unflatten(restored, 0, heads.shape[:2])
        return self.proj(merge_heads(mixed) * gate)  # type: ignore[no-any-return]

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
