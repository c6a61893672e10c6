"""The operators of published code for attention through agents, landmarks and projected tokens.

As in `_official`: written to be measured, as ``implementation=official`` of an entry, with the
copies, repetitions and layouts that they have over there. Masks and dropout are left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .maths.heads import split_heads


def agent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    grid: tuple[int, int],
    side: int,
    biases: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """LeapLabTHU/Agent-Attention, agent_deit.py: agents are pooled before heads are split.

    Args:
        q: (B, N, C); tokens that are not on the grid come first.
        k: (B, H, N, D).
        v: (B, H, N, D).
        grid: rows and columns of the tokens.
        side: the square root of the number of agents.
        biases: as `agent_bias` gives them, of keys (B, H, a, N) and of queries (B, H, N, a).

    Returns:
        (B, H, N, D).
    """
    batch_size, num_tokens, channels = q.shape
    num_heads, scale = k.shape[1], k.shape[-1] ** -0.5
    rows, columns = grid
    on_grid = q[:, num_tokens - rows * columns :].reshape(batch_size, rows, columns, channels)
    pooled = functional.adaptive_avg_pool2d(on_grid.permute(0, 3, 1, 2), side)
    agents = split_heads(pooled.reshape(batch_size, channels, -1).permute(0, 2, 1), num_heads)
    from_keys = (agents * scale) @ k.transpose(-2, -1)
    from_agents = (split_heads(q, num_heads) * scale) @ agents.transpose(-2, -1)
    if biases is not None:
        from_keys, from_agents = from_keys + biases[0], from_agents + biases[1]
    mixed: Tensor = from_agents.softmax(dim=-1) @ (from_keys.softmax(dim=-1) @ v)
    return mixed


def agent_bias(
    table: Tensor,
    by_row: Tensor,
    by_column: Tensor,
    beside: Tensor | None,
    *,
    grid: tuple[int, int],
    batch_size: int,
    of_queries: bool,
) -> Tensor:
    """A learned bias for every sample of a batch: all parts are repeated, and then added.

    Args:
        table: (H, a, 7, 7), stretched to the grid.
        by_row: of keys (H, a, rows, 1); of queries (H, rows, 1, a).
        by_column: of keys (H, a, 1, columns); of queries (H, 1, columns, a).
        beside: of the token that is not on the grid, (H, a, 1) or (H, 1, a); None without one.
        grid: rows and columns.
        batch_size: B.
        of_queries: which of the two.

    Returns:
        (B, H, a, N), of queries (B, H, N, a).
    """
    num_heads, num_agents = table.shape[:2]
    stretched = functional.interpolate(table, size=grid, mode="bilinear")
    stretched = stretched.reshape(1, num_heads, num_agents, -1)
    added = by_row + by_column
    if of_queries:
        stretched = stretched.permute(0, 1, 3, 2)
        added = added.reshape(1, num_heads, -1, num_agents)
    else:
        added = added.reshape(1, num_heads, num_agents, -1)
    bias = stretched.repeat(batch_size, 1, 1, 1) + added.repeat(batch_size, 1, 1, 1)
    if beside is None:
        return bias
    first = beside.unsqueeze(0).repeat(batch_size, 1, 1, 1)
    return torch.cat((first, bias), dim=-2 if of_queries else -1)


def linformer(q: Tensor, k: Tensor, v: Tensor, of_keys: Tensor, of_values: Tensor) -> Tensor:
    """lucidrains/linformer, third-party code: all channels are projected before heads are split.

    Args:
        q: (B, H, N, D).
        k: (B, N, C).
        v: (B, N, C).
        of_keys: the projection along the tokens, (N, P).
        of_values: the same for values.

    Returns:
        (B, H, N, D).
    """
    num_heads = q.shape[1]
    keys, values = (
        split_heads(torch.einsum("bnd,nk->bkd", x, p), num_heads)
        for x, p in ((k, of_keys), (v, of_values))
    )
    scores = torch.einsum("bhnd,bhkd->bhnk", q, keys) * q.shape[-1] ** -0.5
    return torch.einsum("bhnk,bhkd->bhnd", scores.softmax(dim=-1), values)


def nystromformer(
    q: Tensor, k: Tensor, v: Tensor, *, num_landmarks: int, pinv_iters: int, of_batch: bool
) -> Tensor:
    """mlpen/Nystromformer, attention_nystrom.py: queries and keys are scaled apart.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        num_landmarks: a divisor of N.
        pinv_iters: steps towards the pseudo-inverse.
        of_batch: whether it starts from the largest column sum of the whole batch.
    """
    scale = math.sqrt(math.sqrt(q.shape[-1]))
    q, k = q / scale, k / scale
    landmarks_q, landmarks_k = (
        x.reshape(*x.shape[:2], num_landmarks, -1, x.shape[-1]).mean(dim=-2) for x in (q, k)
    )
    rows = functional.softmax(torch.matmul(q, landmarks_k.transpose(-1, -2)), dim=-1)
    between = functional.softmax(torch.matmul(landmarks_q, landmarks_k.transpose(-1, -2)), dim=-1)
    columns = functional.softmax(torch.matmul(landmarks_q, k.transpose(-1, -2)), dim=-1)
    inverse = _pseudo_inverse(between, pinv_iters, of_batch=of_batch)
    return torch.matmul(torch.matmul(rows, inverse), torch.matmul(columns, v))


def _pseudo_inverse(kernel: Tensor, num_steps: int, *, of_batch: bool) -> Tensor:
    identity = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    sums = kernel.sum(dim=-2)
    largest = sums.amax() if of_batch else sums.amax(dim=-1)[:, :, None, None]
    inverse = 1 / largest * kernel.transpose(-1, -2)
    for _ in range(num_steps):
        product = torch.matmul(kernel, inverse)
        inner = 15 * identity - torch.matmul(product, 7 * identity - product)
        outer = 13 * identity - torch.matmul(product, inner)
        inverse = torch.matmul(0.25 * inverse, outer)
    return inverse
