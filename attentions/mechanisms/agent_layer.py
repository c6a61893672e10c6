"""Agent attention's layer: its projections and a depthwise convolution of v."""

from __future__ import annotations

from torch import Tensor, nn

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import GRID_LAYER
from ..checks import fills_grid, flag, one_of
from ..maths.heads import merge_heads, split_heads
from ..maths.vision.class_token import add_on_grid, reference_add_on_grid
from ..maths.vision.grid import convolve_on_grid, depthwise, reference_depthwise
from ..precision import float16_in_float32
from ..registry import register_attention
from .agent import Agent

_DWC_SIZE = 3


@register_attention(
    "agent_layer",
    title="Agent attention layer",
    source="Han et al., 2023, arXiv:2312.08874",
    family="low_rank",
    capabilities=GRID_LAYER,
)
class AgentLayer(AttentionLayer):
    """Agent attention with its projections and a 3 x 3 depthwise convolution of v.

        out = proj(agent(q, k, v) + dwc(v))

    Hazards:
        - Those of its core, `agent`.

    Differences:
        - The authors' DeiT has a class token, which is not on the grid: ``class_token``.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        num_agents: as for `Agent`.
        bias: as for `Agent`.
        class_token: as for `Agent`; the convolution leaves the first token as it is.
        qkv_bias: whether qkv has a bias.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_agents: int = 49,
        bias: bool = True,
        class_token: bool = False,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        flag(self.name, "qkv_bias", qkv_bias)
        channels = geometry.embed_dim
        self.core = Agent(geometry, num_agents, bias, class_token)
        self.num_beside, self.grid = self.core.num_beside, self.core.grid
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.dwc = depthwise(channels, _DWC_SIZE)
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        fills_grid(self.name, x.shape[1] - self.num_beside, self.grid)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        mixed = merge_heads(self.core(*(self._split(part) for part in (q, k, v))))
        local = convolve_on_grid(v[:, self.num_beside :], self.dwc, self.grid)
        return self.proj(add_on_grid(mixed, local))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.geometry.num_heads)

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference, with the convolution written out."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        mixed = merge_heads(self.core.reference(*(self._split(part) for part in (q, k, v))))
        local = reference_depthwise(v[:, self.num_beside :], self.dwc, self.grid)
        return self.proj(reference_add_on_grid(mixed, local))  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, depthwise convolution and the core."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        on_grid = shape.batch_size * (shape.query_len - self.num_beside)
        own = 8 * tokens * channels**2 + 2 * on_grid * channels * _DWC_SIZE**2
        return own + self.core.flops(shape)
