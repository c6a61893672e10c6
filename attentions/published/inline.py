"""InLine attention as its authors' code computes it."""

from __future__ import annotations

from torch import Tensor

from ..base import CallShape
from ..mechanisms.inline import InLine
from .entry import published


def _executed_flops(ours: InLine, shape: CallShape) -> int:
    """Besides, every query meets the mean of the keys."""
    return ours.flops(shape) + 2 * shape.num_tokens * shape.head_dim


@published(
    "inline",
    title="InLine, published operators",
    source="LeapLabTHU/InLine, inline_deit.py, commit e463a6f4",
    methods={"executed_flops": _executed_flops},
)
def inline_published(ours: InLine, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`inline` by its authors' operators: the scale is shared out over whole keys and values.

        w_ij  = s_ij / M - mean_j s_ij / M + 1 / M,  s_ij = q_i . k_j / sqrt(D)
        out_i = sum_j w_ij v_j

    Hazards:
        - Weights grow with queries and keys, and nothing bounds them.

    Differences:
        - `inline` reads the covariance of keys and values, and takes masks.
    """
    scale, num_keys = q.shape[-1] ** -0.5, k.shape[-2]
    share = (scale / num_keys) ** 0.5
    context = (k.transpose(-2, -1) * share) @ (v * share)
    shift = 1 - q @ k.mean(dim=2, keepdim=True).transpose(-2, -1) * scale
    mixed: Tensor = q @ context + shift * v.mean(dim=2, keepdim=True)
    return mixed
