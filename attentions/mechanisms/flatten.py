"""FLatten: focused linear attention, as a core and as the authors' whole layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import kernel
from ..base import Attention, AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_least, fills_grid, flag, odd_width, one_of, positive, whole
from ..maths.grid import convolve_on_grid, depthwise, reference_depthwise
from ..maths.heads import merge_heads, split_heads
from ..maths.kernel_attention import kernel_flops
from ..maths.masks import check_key_mask
from ..precision import float16_in_float32, wide_dtype, widen
from ..registry import register_attention

_SOURCE = "Han et al., 2023, arXiv:2308.00442"
Pull: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class FocusedKernel:
    """Attention with phi(x) = f_p((relu(x) + eps) / softplus(scale)); `Flatten` says the rest."""

    mechanism: str
    factor: float
    norm_over: str
    eps: float

    def __post_init__(self) -> None:
        # As floats: torch takes no whole number beyond 2^63.
        factor = at_least(self.mechanism, "focusing_factor", self.factor, 1)
        object.__setattr__(self, "factor", factor)
        one_of(self.mechanism, "norm_over", self.norm_over, ("all_heads", "head"))
        object.__setattr__(self, "eps", positive(self.mechanism, "eps", self.eps))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, scale: Tensor, key_mask: Tensor | None = None
    ) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E), (H * D,) -> (B, H, N, E)."""
        check_key_mask(self.mechanism, key_mask, k)
        wide = widen(scale).to(wide_dtype(q.dtype))
        inverse = functional.softplus(wide).reciprocal().view(q.shape[1], 1, -1)  # (H, 1, D)
        features = kernel.FeatureMap(self._features, by_hand=self._features_by_hand)
        return kernel.attend(
            q,
            k,
            v,
            inverse,
            queries=features,
            keys=features,
            eps=self.eps,
            mean=True,
            joint_heads=self.norm_over == "all_heads",
            key_mask=key_mask,
        )

    def _features(self, x: Tensor, inverse: Tensor) -> Tensor:
        y = torch.addcmul(self.eps * inverse, x.relu(), inverse)
        powers = (y * self._peak(y).reciprocal()).pow(self.factor)
        return powers * (self._norm(y) / self._norm(powers))

    def _peak(self, y: Tensor) -> Tensor:
        """The largest entry. It cancels: powers of y over it cannot leave the range of floats."""
        peak = y.detach().amax(dim=-1, keepdim=True)
        return peak.amax(dim=-3, keepdim=True) if self.norm_over == "all_heads" else peak

    def _norm(self, x: Tensor) -> Tensor:
        """Over the channels of a head or of all heads."""
        norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        if self.norm_over == "all_heads":
            norm = torch.linalg.vector_norm(norm, dim=-3, keepdim=True)
        return norm

    def _sum(self, x: Tensor) -> Tensor:
        """Likewise."""
        total = x.sum(dim=-1, keepdim=True)
        return total.sum(dim=-3, keepdim=True) if self.norm_over == "all_heads" else total

    def _features_by_hand(self, x: Tensor, inverse: Tensor) -> tuple[Tensor, Pull]:
        """With u = y / peak: phi = c u^p, where c = ||y|| / ||u^p||."""
        above = x.relu()
        y = torch.addcmul(self.eps * inverse, above, inverse)
        per_peak, norm = self._peak(y).reciprocal(), self._norm(y)
        u = y * per_peak
        slope = u.pow(self.factor - 1)
        powers = slope * u
        norm_of_powers = self._norm(powers)
        c = norm / norm_of_powers

        def pull(d_phi: Tensor) -> tuple[Tensor, Tensor]:
            along = self._sum(d_phi * powers)  # the gradient of c
            share = along * c * per_peak * (-self.factor / norm_of_powers.square())
            d_y = d_phi.mul_(c * per_peak * self.factor).addcmul_(powers, share).mul_(slope)
            d_y.addcmul_(y, along / (norm * norm_of_powers))
            d_inverse = (d_y * y).sum(dim=(0, 2))[:, None] / inverse
            return d_y.mul_(inverse).mul_(above.sign_()), d_inverse

        return powers * c, pull

    def reference(self, q: Tensor, k: Tensor, v: Tensor, scale: Tensor) -> Tensor:
        """The N x M weights written out, with the features of all heads side by side."""
        phi_q, phi_k = (self._reference_features(x, scale) for x in (q, k))
        share = phi_q @ phi_k.transpose(-2, -1) / k.shape[-2]
        return share @ v / (share.sum(dim=-1, keepdim=True) + self.eps)

    def _reference_features(self, x: Tensor, scale: Tensor) -> Tensor:
        num_heads = x.shape[1]
        tokens = (merge_heads(x).clamp(min=0) + self.eps) / (1 + scale.exp()).log()  # (B, N, C)
        if self.norm_over == "head":
            tokens = torch.unflatten(tokens, -1, (num_heads, -1))
        sharp = tokens**self.factor
        length, sharp_length = (t.pow(2).sum(-1, keepdim=True).sqrt() for t in (tokens, sharp))
        phi = sharp / sharp_length * length
        return split_heads(phi.reshape(*merge_heads(x).shape), num_heads)


@register_attention(
    "flatten",
    title="FLatten (focused linear attention)",
    source=_SOURCE,
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        heads_independent=False,
        exports=frozenset({"bidirectional"}),
    ),
)
class Flatten(Attention):
    """Linear attention whose features point more sharply: f_p(x) = ||x|| x^p / ||x^p||.

        phi(x) = f_p((relu(x) + eps) / softplus(scale))
        out_i = mean_j phi(q_i) . phi(k_j) v_j / (mean_j phi(q_i) . phi(k_j) + eps)

    ``scale``, one value per channel, is learned. It and the eps inside phi are the authors' code's;
    the paper has f_p(relu(x)). A query whose keys are all hidden gets zeros.

    Hazards:
        - A zero or negative row is a row of eps and stays finite; where all queries or all keys are
          so, the eps in the denominator takes the output towards zero.
        - With ``norm_over="all_heads"`` what a head attends to depends on the sizes of the other
          heads' channels.
        - Powers of small entries vanish in half precision, so features are formed in float32.

    Differences:
        - The paper's norms run over the channels of a head, those of the authors' code over the
          channels of all heads: ``norm_over``, the code's by default.
        - The authors' code divides by a learned softplus(scale) and floors entries by eps; neither
          is in the paper. Both are here.

    Args:
        geometry: the shape to build for.
        focusing_factor: p.
        norm_over: what ||.|| runs over: ``"all_heads"``, all H * D channels of a token, as in the
            authors' code, where one head's features depend on the others' magnitudes; or
            ``"head"``, the D channels of one head, as the paper reads.
        eps: the floor of phi's input, and added to the mean weight.
    """

    def __init__(
        self,
        geometry: Geometry,
        focusing_factor: float = 3,
        norm_over: str = "all_heads",
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        self.kernel = FocusedKernel(self.name, focusing_factor, norm_over, eps)
        self.scale = nn.Parameter(torch.zeros(geometry.embed_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        return self.kernel.attend(q, k, v, self.scale, key_mask)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out."""
        return self.kernel.reference(q, k, v, self.scale.to(q.dtype))

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with D features."""
        return kernel_flops(shape, shape.head_dim)


@register_attention(
    "flatten_layer",
    title="FLatten layer",
    source=_SOURCE,
    family="kernel",
    capabilities=Capabilities(
        needs_grid=True, position_free=False, heads_independent=False, scopes=("layer",)
    ),
)
class FlattenLayer(AttentionLayer):
    """FLatten with its projections, position encoding and depthwise rank restoration.

        out = proj(flatten(q, k + positional_encoding, v) + dwc(v))

    The depthwise convolution has one kernel per channel of a head, the same for every head. With
    ``sr_ratio`` r > 1 keys and values come from the grid shrunk by r in both directions; for the
    convolution v is stretched back to N tokens along the flattened grid, as in the authors' code,
    which blends the end of a row with the start of the next.

    Hazards:
        - Those of its core, `flatten`.
        - With ``sr_ratio`` above 1 the convolution's values are stretched along the flattened grid,
          so that the end of a row reaches into the next, as in the authors' code.

    Differences:
        - The authors' Swin form takes the mask of shifted windows and does not use it; there is no
          such argument here.
        - The released FLatten-Swin and FLatten-CSwin have this layer in their first two stages only
          and softmax attention in the others; FLatten-PVT has it everywhere.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        focusing_factor: p, as for `Flatten`.
        norm_over: as for `Flatten`.
        eps: as for `Flatten`.
        kernel_size: width of the depthwise kernels, odd.
        sr_ratio: r; must divide both sides of the grid.
        qkv_bias: whether q and kv have a bias.
    """

    def __init__(
        self,
        geometry: Geometry,
        focusing_factor: float = 3,
        norm_over: str = "all_heads",
        eps: float = 1e-6,
        kernel_size: int = 5,
        sr_ratio: int = 1,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        flag(self.name, "qkv_bias", qkv_bias)
        self.kernel = FocusedKernel(self.name, focusing_factor, norm_over, eps)
        self.kernel_size = odd_width(self.name, "kernel_size", kernel_size)
        self.sr_ratio = whole(self.name, "sr_ratio", sr_ratio, 1)
        rows, columns = geometry.grid
        if rows % sr_ratio or columns % sr_ratio:
            raise ValueError(
                f"{self.name}: sr_ratio is {sr_ratio}; a divisor of both sides of the "
                f"{rows}x{columns} grid is needed."
            )

        channels, num_keys = geometry.embed_dim, geometry.seq_len // sr_ratio**2
        self.q = nn.Linear(channels, channels, bias=qkv_bias)
        self.kv = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(channels, channels, sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(channels)
        self.positional_encoding = nn.Parameter(torch.zeros(num_keys, channels))
        self.scale = nn.Parameter(torch.zeros(channels))
        self.dwc = depthwise(geometry.head_dim, kernel_size)
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        fills_grid(self.name, x.shape[1], self.geometry.grid)
        q, (k, v) = self.q(x), self.kv(self._shrink(x)).chunk(2, dim=-1)
        q, k, values = (self._split(part) for part in (q, k + self.positional_encoding, v))
        mixed = merge_heads(self.kernel.attend(q, k, values, self.scale))
        return self.proj(mixed + self._restored(v))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.geometry.num_heads)

    def _shrink(self, x: Tensor) -> Tensor:
        if self.sr_ratio == 1:
            return x
        return self.norm(convolve_on_grid(x, self.sr, self.geometry.grid))  # type: ignore[no-any-return]

    def _restored(self, v: Tensor) -> Tensor:
        """DWC(v), (B, M, C) -> (B, N, C): the kernels once per head, on tokens as they lie."""
        if self.sr_ratio > 1:
            length = self.geometry.seq_len
            v = functional.interpolate(v.transpose(1, 2), size=length, mode="linear").transpose(
                1, 2
            )
        num_heads = self.geometry.num_heads
        assert self.dwc.bias is not None
        weight, bias = self.dwc.weight.repeat(num_heads, 1, 1, 1), self.dwc.bias.repeat(num_heads)
        return kernel.convolve_grid(v, self.geometry.grid, weight, bias)

    def reference(self, x: Tensor) -> Tensor:
        """Patches, weights, kernels and interpolation written out."""
        q, (k, v) = self.q(x), self.kv(self._reference_shrink(x)).chunk(2, dim=-1)
        q, k, values = (self._split(part) for part in (q, k + self.positional_encoding, v))
        mixed = self.kernel.reference(q, k, values, self.scale)
        heads = self._split(self._reference_stretch(v))
        restored = torch.stack(
            [reference_depthwise(head, self.dwc, self.geometry.grid) for head in heads.unbind(1)],
            dim=1,
        )
        return self.proj(merge_heads(mixed + restored))  # type: ignore[no-any-return]

    def _reference_shrink(self, x: Tensor) -> Tensor:
        if self.sr_ratio == 1:
            return x
        r, image = self.sr_ratio, torch.unflatten(x, 1, self.geometry.grid)  # (B, rows, columns, C)
        shrunk = torch.zeros_like(image[:, ::r, ::r])
        for down in range(r):
            for right in range(r):
                kernel = self.sr.weight[:, :, down, right]
                shrunk = shrunk + image[:, down::r, right::r] @ kernel.T
        assert self.sr.bias is not None
        tokens = shrunk.flatten(1, 2) + self.sr.bias
        centred = tokens - tokens.mean(dim=-1, keepdim=True)
        spread = (centred.pow(2).mean(dim=-1, keepdim=True) + self.norm.eps).sqrt()
        return centred / spread * self.norm.weight + self.norm.bias

    def _reference_stretch(self, v: Tensor) -> Tensor:
        """Value of a piecewise linear curve through the M tokens, at the centres of N pieces."""
        num_keys, seq_len = v.shape[1], self.geometry.seq_len
        place = (torch.arange(seq_len, dtype=v.dtype, device=v.device) + 0.5) * num_keys / seq_len
        place = (place - 0.5).clamp(0, num_keys - 1)
        left = place.floor().long()
        right = (left + 1).clamp(max=num_keys - 1)
        share = (place - left)[:, None]
        return v[:, left] * (1 - share) + v[:, right] * share

    def flops(self, shape: CallShape) -> int:
        """Projections, shrinking convolution, kernel attention and depthwise convolution."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        keys = tokens // self.sr_ratio**2
        project = 2 * channels**2 * (2 * tokens + 2 * keys)
        shrink = 2 * channels**2 * tokens if self.sr_ratio > 1 else 0
        restore = 2 * channels * self.kernel_size**2 * tokens
        core = replace(shape, key_len=shape.key_len // self.sr_ratio**2)
        return project + shrink + restore + kernel_flops(core, shape.head_dim)
