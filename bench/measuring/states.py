"""Bytes of the state of a recurrent form, counted on tensors without values."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from attentions.maths.recurrences.projected import Size
from bench.measuring.drawn_gates import gates_of

_SHORT, _LONG = 3072, 6144
"""Numbers of tokens from which more are extrapolated: above all windows in use."""


def layer_bytes(
    geometry: Any,
    mechanism: str,
    hyperparameters: dict[str, Any],
    num_tokens: int,
    *,
    dtype: torch.dtype,
    library: ModuleType | None = None,
) -> int | None:
    """Bytes that one layer keeps of a sequence of `num_tokens`, to continue it.

    None without a recurrent form.

    Raises:
        ValueError: the mechanism cannot be built for the geometry.
    """
    attentions: Any = library or importlib.import_module("attentions")
    if not attentions.attention_class(mechanism).capabilities.recurrent:
        return None

    def build() -> Any:
        return attentions.build_attention(mechanism, geometry, **hyperparameters)

    return bytes_after(build, num_tokens, dtype=dtype)


def bytes_after(build: Callable[[], Any], num_tokens: int, *, dtype: torch.dtype) -> int:
    """Bytes of the state of one sequence after a `step` over all of its tokens.

    A state may have room for all tokens from the start, or grow with each; beyond 6,144 tokens,
    growth is extrapolated. Nothing is computed unless the step reads values. `build` builds a
    mechanism with a recurrent form on the default device.

    Raises:
        Exception: whatever the mechanism raises in such a step.
    """
    if num_tokens > _LONG:
        short, long = (bytes_after(build, n, dtype=dtype) for n in (_SHORT, _LONG))
        return long + (long - short) * (num_tokens - _LONG) // (_LONG - _SHORT)
    try:
        return _bytes_after(build, num_tokens, dtype, torch.device("meta"))
    except Exception:  # a plugin's step may read values, which meta tensors do not have
        return _bytes_after(build, num_tokens, dtype, torch.device("cpu"))


@torch.no_grad()
def _bytes_after(
    build: Callable[[], Any], num_tokens: int, dtype: torch.dtype, device: torch.device
) -> int:
    with device:
        core = build().to(device, dtype)  # random weights are drawn on the CPU
        g = core.geometry
        queries, keys = (1, g.num_heads, num_tokens), (1, g.num_kv_heads, num_tokens)
        sizes: list[Size] = [(*queries, g.head_dim), (*keys, g.head_dim), (*keys, g.value_dim)]
        if core.capabilities.scopes == ("layer",):
            sizes = [(1, num_tokens, g.embed_dim)]
        tensors = [torch.ones(size, dtype=dtype) for size in sizes]
        gates = gates_of(core)
        shapes = gates.shapes(1, num_tokens)
        given = {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}
        state = core.init_state(1, dtype=dtype, device=device)
        _, state = core.step(*tensors, state, **given)
    return sum(leaf.nbytes for leaf in tree_leaves(state) if isinstance(leaf, Tensor))
