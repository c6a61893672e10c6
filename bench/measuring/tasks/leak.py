"""Whether a trained model's mechanism sees the future in a task in which a token may not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.measuring.tasks.base import Task
from bench.measuring.tasks.model import Backbone

ROUNDINGS = 64
"""Number of roundings, or of differences between equal calls, by which the past may change with the
future.
"""


@torch.no_grad()
def leaks_future(model: Backbone, task: Task) -> bool:
    """Whether other tokens later on change what the first layer's mixer gave before."""
    if not task.causal or task.seq_len < 2:
        return False
    model.eval()
    mixer: Any = model.blocks[0].mixer
    some = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, task.seq_len, task.recipe.embed_dim, generator=generator)
    x = drawn.to(some.device, some.dtype)  # (B, N, C)
    past = min(task.seq_len - 1, 5 * task.seq_len // 8 | 1)  # ends within a chunk
    later = torch.cat([x[:, :past], -2 * x[:, past:]], dim=1)
    first, again, other = (mixer(tokens)[:, :past] for tokens in (x, x, later))
    allowed = max(_moved(first, again), torch.finfo(x.dtype).eps)
    return _moved(first, other) > ROUNDINGS * allowed


def _moved(ours: Tensor, theirs: Tensor) -> float:
    """The most by which a token's output moves, relative to its norm."""
    return float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-30)).max())
