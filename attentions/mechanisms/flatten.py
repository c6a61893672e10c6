"""FLatten: focused linear attention, as a core and as the authors' whole layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import _official
from .._engine import attention_by_tiles
from .._engine_depthwise import convolve_grid
from .._engine_flatten import Focused
from .._engine_forms import by_tiles, known_form, official_layout, refuse_mask
from .._engine_kernel import Kernel
from .._engine_threads import NUM_FEW, alone_if_few
from .._float16_layers import add, float16_in_float32, like, project, shrink
from ..base import Attention, AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_least, fills_grid, flag, odd_width, one_of, positive, whole
from ..maths.feature_maps import focused
from ..maths.grid import convolve_on_grid, depthwise, reference_depthwise
from ..maths.heads import merge_heads, split_heads
from ..maths.kernel_attention import kernel_attention, kernel_flops
from ..maths.masks import count_keys, hide_keys
from ..precision import wide_dtype, widen, without_autocast
from ..registry import register_attention

_SOURCE = "Han et al., 2023, arXiv:2308.00442"
_NORMS = {"all_heads": (-3, -1), "head": (-1,)}
"""Axes of (B, H, N, D) that the norms of the focused function run over."""


@dataclass(frozen=True)
class FocusedKernel:
    """Attention with phi(x) = f_p((relu(x) + eps) / softplus(scale)); `Flatten` says the rest."""

    mechanism: str
    factor: float
    norm_over: str
    eps: float
    implementation: str

    def __post_init__(self) -> None:
        # As floats: torch takes no whole number beyond 2^63.
        factor = at_least(self.mechanism, "focusing_factor", self.factor, 1)
        object.__setattr__(self, "factor", factor)
        one_of(self.mechanism, "norm_over", self.norm_over, tuple(_NORMS))
        object.__setattr__(self, "eps", positive(self.mechanism, "eps", self.eps))
        known_form(self.mechanism, self.implementation)
        if self.implementation == "official":
            what = "norm_over with implementation='official'"
            one_of(self.mechanism, what, self.norm_over, ("all_heads",))

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: Tensor,
        key_mask: Tensor | None = None,
        onto: Tensor | None = None,
    ) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E), (H * D,) -> (B, H, N, E).

        Where no gradients are wanted the sum with ``onto`` may be had in its place.
        """
        if self.implementation == "official":
            refuse_mask(self.mechanism, key_mask)
            return self._official(q, k, v, scale)
        per_head = torch.unflatten(widen(scale), 0, (q.shape[1], 1, -1))  # (H, 1, D)
        inverse = functional.softplus(per_head).reciprocal()
        if by_tiles(self.implementation, key_mask, q, k, v, inverse):
            kernel = self._kernel(q, k)
            return attention_by_tiles(kernel, q, k, v, inverse, plain=self._plain, onto=onto)
        out = self._plain(q, k, v, inverse, key_mask=key_mask)
        return out if onto is None else onto + out

    def _plain(
        self, q: Tensor, k: Tensor, v: Tensor, inverse: Tensor, *, key_mask: Tensor | None = None
    ) -> Tensor:
        with without_autocast(q.device.type):
            phi_q = self._features(widen(q), inverse)
            phi_k = hide_keys(self.mechanism, self._features(widen(k), inverse), key_mask)
            eps = self.eps * count_keys(phi_k, key_mask)
            return kernel_attention(phi_q, phi_k, widen(v), eps).to(q.dtype)

    def _features(self, x: Tensor, inverse: Tensor) -> Tensor:
        x = (x.relu() + self.eps) * inverse
        return focused(x, self.factor, _NORMS[self.norm_over])

    def _kernel(self, q: Tensor, k: Tensor) -> Kernel:
        together = q.shape[1] if self.norm_over == "all_heads" else 1
        features = Focused(self.factor, together, self.eps)
        return Kernel(
            queries=features,
            keys=features,
            num_features=q.shape[-1],
            eps=self.eps * k.shape[-2],
            joint_heads=together,
        )

    def _official(self, q: Tensor, k: Tensor, v: Tensor, scale: Tensor) -> Tensor:
        tokens_q, tokens_k = merge_heads(q), merge_heads(k)
        return _official.flatten(
            tokens_q, tokens_k, v, scale.to(q.dtype), factor=self.factor, eps=self.eps
        )

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
        implementation: ``"auto"``, ``"plain"``, or ``"official"``: the authors' operators, which
            take no mask and norms over all heads.
    """

    def __init__(
        self,
        geometry: Geometry,
        focusing_factor: float = 3,
        norm_over: str = "all_heads",
        eps: float = 1e-6,
        implementation: str = "auto",
    ) -> None:
        super().__init__(geometry)
        self.kernel = FocusedKernel(self.name, focusing_factor, norm_over, eps, implementation)
        if implementation == "official":
            official_layout(self, "bnhd")
        self.scale = nn.Parameter(torch.zeros(geometry.embed_dim))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        return self.kernel.attention(q, k, v, self.scale, key_mask)

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
        implementation: as for `Flatten`; it says the convolution's operators, too.
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
        implementation: str = "auto",
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        flag(self.name, "qkv_bias", qkv_bias)
        self.kernel = FocusedKernel(self.name, focusing_factor, norm_over, eps, implementation)
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
        shrunk = self._shrink(x)
        if self.kernel.implementation == "official":
            k, v = project(shrunk, self.kv).chunk(2, dim=-1)  # (B, M, C)
        else:
            k, v = self._project_apart(shrunk)
        mixed = self.mix(project(x, self.q), add(k, self.positional_encoding), v)
        return project(mixed, self.proj)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What lies between the projections: (B, N, C), (B, M, C), (B, M, C) -> (B, N, C)."""
        restored, v = self._restore_rank(v)
        heads_q, heads_k, heads_v = (self._split(x) for x in (q, k, v))
        is_official = self.kernel.implementation == "official"
        is_wide = q.dtype == restored.dtype == wide_dtype(q.dtype)
        if is_wide and not (is_official or torch.is_grad_enabled()):
            onto = self._split(restored)
            mixed = self.kernel.attention(heads_q, heads_k, heads_v, self.scale, onto=onto)
            return merge_heads(mixed)
        mixed = merge_heads(self.kernel.attention(heads_q, heads_k, heads_v, self.scale))
        if is_official or mixed.dtype != restored.dtype:
            return mixed + restored
        with alone_if_few(mixed, few=NUM_FEW):
            return restored.add_(mixed)  # a third tensor would take longer than the sum

    def _project_apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """K and v, each with a memory of its own: a convolution would copy every other half-row."""
        weight, bias = like(x, self.kv.weight), self.kv.bias
        weight_k, weight_v = weight.chunk(2)
        bias_k, bias_v = like(x, bias).chunk(2) if bias is not None else (None, None)
        return functional.linear(x, weight_k, bias_k), functional.linear(x, weight_v, bias_v)

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.geometry.num_heads)

    def _shrink(self, x: Tensor) -> Tensor:
        if self.sr_ratio == 1:
            return x
        return shrink(x, self.sr, self.norm, self.geometry.grid)

    def _restore_rank(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """DWC(v), head by head: (B, M, C) -> (B, N, C). And v, as `convolve_grid` returns it."""
        if self.sr_ratio > 1:
            along = functional.interpolate(
                v.transpose(1, 2), size=self.geometry.seq_len, mode="linear"
            )
            return self._convolve(along.transpose(1, 2))[0], v
        return self._convolve(v)

    def _convolve(self, v: Tensor) -> tuple[Tensor, Tensor]:
        if self.kernel.implementation == "official":
            heads = self._split(v)
            restored = convolve_on_grid(heads.flatten(0, 1), self.dwc, self.geometry.grid)
            return merge_heads(torch.unflatten(restored, 0, heads.shape[:2])), v
        return self._convolve_side_by_side(v)

    def _convolve_side_by_side(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The kernels once per head, so that tokens are convolved as they lie, channels last."""
        num_heads = self.geometry.num_heads
        assert self.dwc.bias is not None and self.geometry.grid is not None
        weight = like(v, self.dwc.weight).repeat(num_heads, 1, 1, 1)
        bias = like(v, self.dwc.bias).repeat(num_heads)
        return convolve_grid(v, self.geometry.grid, weight, bias)

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
