"""Linformer as the common third-party code computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import equal_lengths
from ..maths.heads import merge_heads, split_heads
from ..mechanisms.linformer import Linformer
from .entry import published


@published(
    "linformer",
    title="Linformer, published operators",
    source="lucidrains/linformer, commit 970e1c3f",
)
def linformer_published(ours: Linformer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`linformer` by third-party operators: all channels are projected before heads are split.

        out = softmax(q (E^T k)^T / sqrt(D)) (F^T v)

    Hazards:
        - A sequence longer than geometry.seq_len is refused: the projections have no rows for it.

    Differences:
        - `linformer` mixes values with torch's fused attention where no gradient is wanted.

    Args:
        projected_len: P, whatever the length.
        share_kv: one matrix for keys and values, E = F.
    """
    equal_lengths("linformer_published", q, k, "a projection along the tokens")
    seq_len, longest = k.shape[-2], ours.geometry.seq_len
    if seq_len > longest:
        raise ValueError(
            f"linformer_published: {seq_len} tokens were given; it was built for {longest} or "
            "fewer, as each has its own row in the projection."
        )
    of_keys, of_values = ours.proj_k, ours.proj_v
    pair = ((k, of_keys), (v, of_keys if of_values is None else of_values))
    keys, values = (
        split_heads(torch.einsum("bnd,nk->bkd", merge_heads(x), p[:seq_len]), q.shape[1])
        for x, p in pair
    )
    scores = torch.einsum("bhnd,bhkd->bhnk", q, keys) * q.shape[-1] ** -0.5
    return torch.einsum("bhnk,bhkd->bhnd", scores.softmax(dim=-1), values)
