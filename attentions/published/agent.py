"""Agent attention as its authors' code computes it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..checks import equal_lengths, fills_grid
from ..maths.heads import merge_heads, split_heads
from ..mechanisms.agent import Agent
from .entry import published


@published(
    "agent",
    title="Agent attention, published operators",
    source="LeapLabTHU/Agent-Attention, agent_deit.py, commit 207ce3eb",
    memory_layout="bnhd",
)
def agent_published(ours: Agent, q: Tensor, k: Tensor, v: Tensor, *, bias: bool) -> Tensor:
    """`agent` by its authors' operators: agents are pooled, and biases repeated for every sample.

        out = softmax(q a^T / sqrt(D) + B2) (softmax(a k^T / sqrt(D) + B1) v)

    Hazards:
        - The agents are patches of one grid: on another grid the same weights mean other places.

    Differences:
        - `agent` adds its biases once for the batch, and takes heads one by one.

    Args:
        num_agents: p^2, a square number.
        bias: whether there are B1 and B2.
        class_token: whether the first token is not on the grid.
    """
    (rows, columns), num_heads = ours.grid, k.shape[1]
    equal_lengths("agent_published", q, k, "pooling agents for a grid")
    fills_grid("agent_published", q.shape[-2] - ours.num_beside, ours.grid)
    tokens, scale = merge_heads(q), k.shape[-1] ** -0.5
    batch_size, _, channels = tokens.shape
    on_grid = tokens[:, ours.num_beside :].reshape(batch_size, rows, columns, channels)
    pooled = functional.adaptive_avg_pool2d(on_grid.permute(0, 3, 1, 2), ours.side)
    agents = split_heads(pooled.reshape(batch_size, channels, -1).permute(0, 2, 1), num_heads)
    from_keys = (agents * scale) @ k.transpose(-2, -1)
    from_agents = (split_heads(tokens, num_heads) * scale) @ agents.transpose(-2, -1)
    if bias:
        from_keys = from_keys + _key_bias(ours, batch_size)
        from_agents = from_agents + _query_bias(ours, batch_size)
    mixed: Tensor = from_agents.softmax(dim=-1) @ (from_keys.softmax(dim=-1) @ v)
    return mixed


def _key_bias(ours: Agent, batch_size: int) -> Tensor:
    """B1 for every sample, (B, H, a, N): all parts are repeated, and then added."""
    placed = (ours.ah_bias + ours.aw_bias).flatten(2).unsqueeze(0)
    table = _stretched(ours, ours.an_bias)
    bias = table.repeat(batch_size, 1, 1, 1) + placed.repeat(batch_size, 1, 1, 1)
    if not ours.num_beside:
        return bias
    return torch.cat((ours.ac_bias.unsqueeze(0).repeat(batch_size, 1, 1, 1), bias), dim=-1)


def _query_bias(ours: Agent, batch_size: int) -> Tensor:
    """B2 likewise, (B, H, N, a)."""
    placed = (ours.ha_bias + ours.wa_bias).flatten(1, 2).unsqueeze(0)
    table = _stretched(ours, ours.na_bias).permute(0, 1, 3, 2)
    bias = table.repeat(batch_size, 1, 1, 1) + placed.repeat(batch_size, 1, 1, 1)
    if not ours.num_beside:
        return bias
    return torch.cat((ours.ca_bias.unsqueeze(0).repeat(batch_size, 1, 1, 1), bias), dim=-2)


def _stretched(ours: Agent, table: Tensor) -> Tensor:
    """(H, a, 7, 7) -> (1, H, a, rows * columns)."""
    stretched = functional.interpolate(table, size=ours.grid, mode="bilinear")
    return stretched.flatten(2).unsqueeze(0)
