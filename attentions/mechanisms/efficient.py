"""Efficient Attention: queries and keys are normalised apart, so that values can be mixed first."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import kernel
from .._float16_layers import float16_in_float32, project
from ..base import Attention, AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import flag, one_of, whole
from ..maths.feature_maps import LOG2_E
from ..maths.heads import merge_heads, split_heads
from ..maths.masks import check_key_mask
from ..registry import register_attention

_SOURCE = "Shen et al., 2021, arXiv:1812.01243"


def _exponents(k: Tensor) -> tuple[Tensor, Tensor]:
    """To the base 2, each relative to the largest of its channel."""
    return k * LOG2_E, k.detach() * LOG2_E


def _shares(contexts: kernel.Parts, key_sums: kernel.Parts) -> tuple[kernel.Parts, kernel.Parts]:
    """Contexts of softmax(k) over tokens. The largest exponential is 1 unless nobody is seen."""
    ((context,), (key_sum,)) = contexts, key_sums
    return (context / key_sum.clamp(min=0.5),), key_sums


_QUERIES = kernel.FeatureMap(lambda q: q.softmax(dim=-1))
_KEYS = kernel.FeatureMap(_exponents, floor=0.0)


@register_attention(
    "efficient",
    title="Efficient Attention",
    source=_SOURCE,
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Efficient(Attention):
    """softmax(q over channels) (softmax(k over tokens)^T v): the softmax form of the paper's two.

    The weights of a query sum to 1 by themselves, so nothing divides and nothing can vanish. There
    is no 1 / sqrt(D) in paper or code. The softmax over tokens sees the whole sequence, so there
    is no causal form. The paper's other normalisation, dividing q and k by sqrt(N), is
    `linear_unnormalised` up to a factor.

    Performer's third-party code gives the same with ``no_projection=True``. A query whose keys are
    all hidden gets zeros.

    Hazards:
        - Keys are normalised over all tokens: one very large entry takes a channel for itself, and
          adding a token changes all weights.

    Differences:
        - The paper has two normalisations; the authors' code and ours have the softmax, the other
          is `linear_unnormalised` up to a factor.
        - There is no 1/sqrt(D) in paper or code, so the softmaxes sharpen as D grows.

    Args:
        geometry: the shape to build for.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        check_key_mask(self.name, key_mask, k)
        return kernel.attend(
            q, k, v, queries=_QUERIES, keys=_KEYS, eps=None, gather=_shares, key_mask=key_mask
        )

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out, from exponentials over their sums."""
        of_channels = (q - q.amax(dim=-1, keepdim=True)).exp()
        of_tokens = (k - k.amax(dim=-2, keepdim=True)).exp()
        of_channels = of_channels / of_channels.sum(dim=-1, keepdim=True)
        of_tokens = of_tokens / of_tokens.sum(dim=-2, keepdim=True)
        return torch.einsum("bhnd,bhmd->bhnm", of_channels, of_tokens) @ v

    def flops(self, shape: CallShape) -> int:
        """Keys meet values, and queries read; there is no normaliser."""
        return 2 * shape.head_dim * shape.value_dim * (shape.num_keys + shape.num_tokens)


@register_attention(
    "efficient_layer",
    title="Efficient Attention layer",
    source=_SOURCE,
    family="kernel",
    capabilities=Capabilities(
        heads_independent=False,
        scopes=("layer",),
        exports=frozenset({"bidirectional"}),
    ),
)
class EfficientLayer(AttentionLayer):
    """Efficient Attention with its projections (1 x 1 convolutions) and its residual connection.

        out = proj(efficient(q(x), k(x), v(x))) + x

    Hazards:
        - Those of its core, `efficient`.

    Differences:
        - The authors' module adds its input to its output itself; ``residual=False`` leaves that to
          the model around it.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        key_channels: of queries and keys over all heads; C if None.
        value_channels: of values over all heads; C if None.
        residual: whether x is added, as the authors' module does itself.
    """

    def __init__(
        self,
        geometry: Geometry,
        key_channels: int | None = None,
        value_channels: int | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        channels, heads = geometry.embed_dim, geometry.num_heads
        self.key_channels = self._over_heads("key_channels", key_channels)
        self.value_channels = self._over_heads("value_channels", value_channels)
        self.residual = flag(self.name, "residual", residual)
        self.core = Efficient(
            replace(
                geometry,
                head_dim=self.key_channels // heads,
                value_dim=self.value_channels // heads,
            )
        )
        self.q = nn.Linear(channels, self.key_channels)
        self.k = nn.Linear(channels, self.key_channels)
        self.v = nn.Linear(channels, self.value_channels)
        self.proj = nn.Linear(self.value_channels, channels)

    def _over_heads(self, argument: str, channels: int | None) -> int:
        heads = self.geometry.num_heads
        if channels is None:
            return self.geometry.embed_dim
        if whole(self.name, argument, channels, heads) % heads:
            raise ValueError(
                f"{self.name}: {argument} is {channels}; a multiple of num_heads, {heads}, is "
                "needed."
            )
        return channels

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        out = project(merge_heads(self.core(*self._heads(x))), self.proj)
        return out + x if self.residual else out

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (
            split_heads(project(x, part), self.geometry.num_heads)
            for part in (self.q, self.k, self.v)
        )
        return q, k, v

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference."""
        out: Tensor = self.proj(merge_heads(self.core.reference(*self._heads(x))))
        return out + x if self.residual else out

    def flops(self, shape: CallShape) -> int:
        """Projections and the core."""
        tokens, channels = shape.batch_size * shape.query_len, shape.num_heads * shape.head_dim
        project = 4 * tokens * channels * (self.key_channels + self.value_channels)
        return project + self.core.flops(self._core_shape(shape))

    def _core_shape(self, shape: CallShape) -> CallShape:
        g = self.core.geometry
        return replace(shape, head_dim=g.head_dim, value_dim=g.value_dim)
