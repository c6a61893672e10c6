"""The layer of vision models: projections, a local convolution of values, and an output gate."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..base import Attention, AttentionLayer, CallShape
from ..checks import fills_grid, one_of
from ..inputs import mask_given
from ..maths.heads import merge_heads, split_heads
from ..maths.norms import reference_normalise
from ..maths.pairs.masks import hide_tokens
from ..maths.vision.grid import convolve_on_grid, depthwise, reference_depthwise
from ..precision import float16_in_float32

_LEPE_SIZE = 5


class GridLayer(AttentionLayer):
    """A core for tokens on a grid, with the projections around it: (B, N, C) -> (B, N, C).

        q, k, v, g = qkvg(x)
        out = proj(norm(core(q, k, v) + lepe(v)) * silu(g))        proj((...) * g) without a norm

    Args:
        core: the mechanism; its value_dim must be head_dim.
        is_normed: whether there is a LayerNorm, and a silu of the gate.
    """

    def __init__(self, core: Attention, *, is_normed: bool = True) -> None:
        self._name_after(core)
        super().__init__(core.geometry)
        g, channels = self.geometry, self.geometry.embed_dim
        one_of(self.name, "geometry.value_dim", g.value_dim, (g.head_dim,))
        self.core = core
        self.qkvg = nn.Linear(channels, 4 * channels)
        self.lepe = depthwise(channels, _LEPE_SIZE)
        self.norm = nn.LayerNorm(channels) if is_normed else None
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor, *, key_mask: Tensor | None = None, **gates: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C); hidden tokens are zeros to the convolution."""
        fills_grid(self.name, x.shape[1], self.geometry.grid)
        q, k, v, gate = self.qkvg(x).chunk(4, dim=-1)
        one, two, three = (split_heads(part, self.geometry.num_heads) for part in (q, k, v))
        masks = mask_given(key_mask)
        local = convolve_on_grid(hide_tokens(v, key_mask), self.lepe, self.geometry.grid)
        mixed = merge_heads(self.mix(one, two, three, **masks, **gates)) + local
        if self.norm is None:
            return self.proj(mixed * gate)  # type: ignore[no-any-return]
        return self.proj(self.norm(mixed) * functional.silu(gate))  # type: ignore[no-any-return]

    def mix(self, q: Tensor, k: Tensor, v: Tensor, **others: Tensor) -> Tensor:
        """The core, (B, H, N, D) each."""
        return self.core(q, k, v, **others)

    def reference_mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The core's slow form."""
        mixed = self.core.reference(q, k, v)
        assert mixed is not None
        return mixed

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference, with convolution, norm and gate written out."""
        q, k, v, gate = self.qkvg(x).chunk(4, dim=-1)
        heads = (split_heads(part, self.geometry.num_heads) for part in (q, k, v))
        mixed = merge_heads(self.reference_mix(*heads))
        mixed = mixed + reference_depthwise(v, self.lepe, self.geometry.grid)
        if self.norm is not None:
            mixed = reference_normalise(mixed, self.norm) / (1 + (-gate).exp())
        return self.proj(mixed * gate)  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, depthwise convolution and the core."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        project = 2 * tokens * channels * 5 * channels
        return project + 2 * tokens * channels * _LEPE_SIZE**2 + self.core.flops(shape)
