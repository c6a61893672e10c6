"""Agent attention: agents pooled from the queries attend to keys, and queries to agents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import fills_grid, flag, whole
from ..maths.heads import by_few_heads
from ..maths.vision.class_token import grid_beside
from ..maths.vision.grid import image_of, tokens_of
from ..precision import in_wide_precision, widen
from ..registry import register_attention

_TABLE_SIZE = 7
"""Sides of the position tables that are stretched to the grid, as in the authors' code."""
_BIAS_SPREAD = 0.02
_OF_KEYS = ("an_bias", "ah_bias", "aw_bias", "ac_bias")
_OF_QUERIES = ("na_bias", "ha_bias", "wa_bias", "ca_bias")
"""Tables that B1 and B2 are made of: by row, by column, and that of a class token."""


@register_attention(
    "agent",
    title="Agent attention",
    source="Han et al., 2023, arXiv:2312.08874",
    family="low_rank",
    capabilities=Capabilities(needs_grid=True, position_free=False),
)
class Agent(Attention):
    """softmax(q a^T / sqrt(D) + B2) (softmax(a k^T / sqrt(D) + B1) v), a pooled from q.

    The agents a are means of q over p x p patches of the grid. The biases are learned, per head
    and agent, as functions of the place of the token: a 7 x 7 table stretched over the grid, a
    column of rows and a row of columns, all added. They start small.

    Hazards:
        - The agents are patches of one grid: on another grid the same weights mean other places.

    Differences:
        - The authors' biases belong to one fixed window; here they are stretched over any grid of
          the geometry.

    Args:
        geometry: the shape to build for.
        num_agents: p^2, a square number; 49 as in the authors' DeiT.
        bias: whether there are B1 and B2.
        class_token: whether the first token is not on the grid: it is in no agent, and has biases
            of its own. All others then fill a square, and the geometry's grid is not used.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_agents: int = 49,
        bias: bool = True,
        class_token: bool = False,
    ) -> None:
        super().__init__(geometry)
        self.side = math.isqrt(whole(self.name, "num_agents", num_agents, 1))
        if self.side**2 != num_agents:
            raise ValueError(
                f"{self.name}: num_agents is {num_agents}; a square number is needed, as agents "
                "are pooled from patches of the grid."
            )
        self.num_agents = num_agents
        self.bias = flag(self.name, "bias", bias)
        self.num_beside = 1 if flag(self.name, "class_token", class_token) else 0
        self.grid = grid_beside(self.name, geometry, class_token=class_token)
        if bias:
            heads, (rows, columns) = geometry.num_heads, self.grid
            table = (heads, num_agents, _TABLE_SIZE, _TABLE_SIZE)
            self.an_bias, self.na_bias = _small(*table), _small(*table)
            self.ah_bias = _small(heads, num_agents, rows, 1)
            self.aw_bias = _small(heads, num_agents, 1, columns)
            self.ha_bias = _small(heads, rows, 1, num_agents)
            self.wa_bias = _small(heads, 1, columns, num_agents)
            if class_token:
                self.ac_bias = _small(heads, num_agents, 1)
                self.ca_bias = _small(heads, 1, num_agents)

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        fills_grid(self.name, q.shape[-2] - self.num_beside, self.grid)
        learned = (*self._learned(_OF_KEYS, q), *self._learned(_OF_QUERIES, q)) if self.bias else ()
        return by_few_heads(self._mix, q, k, v, *learned, num_columns=self.num_agents)

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, *learned: Tensor) -> Tensor:
        """The same for some heads, and what B1 and B2 of these are made of."""
        agents = self._agents(q) / math.sqrt(q.shape[-1])  # (B, H, a, D)
        from_keys, from_agents = agents @ k.mT, q @ agents.mT
        if learned:
            half = len(learned) // 2
            from_keys = from_keys + self._key_bias(*(x[0] for x in learned[:half]))
            from_agents = from_agents + self._query_bias(*(x[0] for x in learned[half:]))
        return from_agents.softmax(dim=-1) @ (from_keys.softmax(dim=-1) @ v)

    def _learned(self, names: Sequence[str], q: Tensor) -> list[Tensor]:
        """Parameters as wide as q, (1, H, ...): a table, a column, a row, that of a class token."""
        names = names[: 3 + self.num_beside]
        return [widen(getattr(self, name)).to(q.dtype)[None] for name in names]

    def _agents(self, q: Tensor) -> Tensor:
        """Means over patches of the grid: (B, H, N, D) -> (B, H, a, D)."""
        on_grid = image_of(q[..., self.num_beside :, :].flatten(0, 1), self.grid)
        pooled = tokens_of(functional.adaptive_avg_pool2d(on_grid, self.side))
        return torch.unflatten(pooled, 0, q.shape[:2])

    def _key_bias(
        self, table: Tensor, by_row: Tensor, by_column: Tensor, *beside: Tensor
    ) -> Tensor:
        """B1, (H, a, N)."""
        bias = (self._stretched(table) + (by_row + by_column)).flatten(2)
        return torch.cat((*beside, bias), dim=-1) if beside else bias

    def _query_bias(
        self, table: Tensor, by_row: Tensor, by_column: Tensor, *beside: Tensor
    ) -> Tensor:
        """B2, (H, N, a)."""
        bias = self._stretched(table).flatten(2).mT + (by_row + by_column).flatten(1, 2)
        return torch.cat((*beside, bias), dim=-2) if beside else bias

    def _stretched(self, table: Tensor) -> Tensor:
        """(H, a, 7, 7) -> (H, a, rows, columns)."""
        return functional.interpolate(table, size=self.grid, mode="bilinear")

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Patch by patch, with stretching and both softmaxes written out."""
        scale = math.sqrt(q.shape[-1])
        image = torch.unflatten(q[..., self.num_beside :, :], 2, self.grid)
        patches = [
            image[:, :, top:bottom, left:right].mean(dim=(2, 3))
            for top, bottom in _reference_bins(self.grid[0], self.side)
            for left, right in _reference_bins(self.grid[1], self.side)
        ]
        agents = torch.stack(patches, dim=2)
        from_keys = torch.einsum("bhad,bhnd->bhan", agents, k) / scale
        from_agents = torch.einsum("bhnd,bhad->bhna", q, agents) / scale
        if self.bias:
            rows, columns = (
                _reference_stretch(_TABLE_SIZE, size, q.dtype, q.device) for size in self.grid
            )
            stretch = "rs,hast,ct->harc"
            bias = torch.einsum(stretch, rows, self.an_bias, columns) + self.ah_bias + self.aw_bias
            key_bias = bias.flatten(2)
            bias = torch.einsum(stretch, rows, self.na_bias, columns).permute(0, 2, 3, 1)
            query_bias = (bias + self.ha_bias + self.wa_bias).flatten(1, 2)
            if self.num_beside:
                key_bias = torch.cat((self.ac_bias, key_bias), dim=2)
                query_bias = torch.cat((self.ca_bias, query_bias), dim=1)
            from_keys, from_agents = from_keys + key_bias, from_agents + query_bias
        shares = [(s - s.amax(-1, keepdim=True)).exp() for s in (from_keys, from_agents)]
        keys, queries = (s / s.sum(dim=-1, keepdim=True) for s in shares)
        return queries @ keys @ v

    def flops(self, shape: CallShape) -> int:
        """Agents meet keys and values; queries meet agents and what they gathered."""
        per_token = 2 * self.num_agents * (shape.head_dim + shape.value_dim)
        return per_token * (shape.num_tokens + shape.num_keys)


def _small(*sizes: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(sizes), std=_BIAS_SPREAD))


def _reference_bins(size: int, count: int) -> list[tuple[int, int]]:
    """Where the patches of an adaptive pooling begin and end; they may overlap."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _reference_stretch(
    size: int, new_size: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Shares of old places in new ones, by linear interpolation between centres: (new, old)."""
    place = (torch.arange(new_size, dtype=dtype, device=device) + 0.5) * size / new_size - 0.5
    place = place.clamp(0, size - 1)
    old = torch.arange(size, dtype=dtype, device=device)
    return (1 - (place[:, None] - old).abs()).clamp(min=0)
