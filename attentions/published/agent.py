"""Agent attention as its authors' code computes it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import equal_lengths, fills_grid
from ..maths.heads import merge_heads, split_heads
from ..mechanisms.agent import Agent
from ..registry import register_attention
from .entry import PublishedCore


@register_attention(
    "agent_published",
    title="Agent attention, published operators",
    source="LeapLabTHU/Agent-Attention, agent_deit.py, commit 207ce3eb",
    family="published",
    capabilities=Capabilities(
        needs_grid=True, position_free=False, memory_layout="bnhd", dtypes=("float32", "float64")
    ),
)
class AgentPublished(PublishedCore):
    """`agent` by its authors' operators: agents are pooled, and biases repeated for every sample.

        out = softmax(q a^T / sqrt(D) + B2) (softmax(a k^T / sqrt(D) + B1) v)

    Hazards:
        - The agents are patches of one grid: on another grid the same weights mean other places.

    Differences:
        - `agent` adds its biases once for the batch, and takes heads one by one.

    Args:
        geometry: the shape to build for.
        num_agents: p^2, a square number.
        bias: whether there are B1 and B2.
        class_token: whether the first token is not on the grid.
    """

    ours: Agent

    def __init__(
        self,
        geometry: Geometry,
        num_agents: int = 49,
        bias: bool = True,
        class_token: bool = False,
    ) -> None:
        super().__init__(geometry)
        self.ours = Agent(geometry, num_agents=num_agents, bias=bias, class_token=class_token)
        self.bias, self.grid, self.num_beside = bias, self.ours.grid, self.ours.num_beside

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        (rows, columns), num_heads = self.grid, k.shape[1]
        equal_lengths(self.name, q, k, "pooling agents for a grid")
        fills_grid(self.name, q.shape[-2] - self.num_beside, self.grid)
        tokens, scale = merge_heads(q), k.shape[-1] ** -0.5
        batch_size, _, channels = tokens.shape
        on_grid = tokens[:, self.num_beside :].reshape(batch_size, rows, columns, channels)
        pooled = functional.adaptive_avg_pool2d(on_grid.permute(0, 3, 1, 2), self.ours.side)
        agents = split_heads(pooled.reshape(batch_size, channels, -1).permute(0, 2, 1), num_heads)
        from_keys = (agents * scale) @ k.transpose(-2, -1)
        from_agents = (split_heads(tokens, num_heads) * scale) @ agents.transpose(-2, -1)
        if self.bias:
            from_keys = from_keys + self._key_bias(batch_size)
            from_agents = from_agents + self._query_bias(batch_size)
        mixed: Tensor = from_agents.softmax(dim=-1) @ (from_keys.softmax(dim=-1) @ v)
        return mixed

    def _key_bias(self, batch_size: int) -> Tensor:
        """B1 for every sample, (B, H, a, N): all parts are repeated, and then added."""
        ours = self.ours
        placed = (ours.ah_bias + ours.aw_bias).flatten(2).unsqueeze(0)
        table = self._stretched(ours.an_bias)
        bias = table.repeat(batch_size, 1, 1, 1) + placed.repeat(batch_size, 1, 1, 1)
        if not self.num_beside:
            return bias
        return torch.cat((ours.ac_bias.unsqueeze(0).repeat(batch_size, 1, 1, 1), bias), dim=-1)

    def _query_bias(self, batch_size: int) -> Tensor:
        """B2 likewise, (B, H, N, a)."""
        ours = self.ours
        placed = (ours.ha_bias + ours.wa_bias).flatten(1, 2).unsqueeze(0)
        table = self._stretched(ours.na_bias).permute(0, 1, 3, 2)
        bias = table.repeat(batch_size, 1, 1, 1) + placed.repeat(batch_size, 1, 1, 1)
        if not self.num_beside:
            return bias
        return torch.cat((ours.ca_bias.unsqueeze(0).repeat(batch_size, 1, 1, 1), bias), dim=-2)

    def _stretched(self, table: Tensor) -> Tensor:
        """(H, a, 7, 7) -> (1, H, a, rows * columns)."""
        stretched = functional.interpolate(table, size=self.grid, mode="bilinear")
        return stretched.flatten(2).unsqueeze(0)
