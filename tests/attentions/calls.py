"""Shapes of calls with as many keys as queries."""

from __future__ import annotations

from attentions import CallShape


def call_of(length: int, head_dim: int = 4, value_dim: int | None = None, **rest: int) -> CallShape:
    """Of one sequence and two heads, unless `rest` says otherwise; values as wide as keys."""
    sizes = {"batch_size": 1, "num_heads": 2, "value_dim": value_dim or head_dim} | rest
    return CallShape(query_len=length, key_len=length, head_dim=head_dim, **sizes)  # type: ignore
