"""The share of pairs that a sparse mechanism keeps, observed in a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def kept_share(
    module: nn.Module, call: Callable[[], object], *, last: bool = False
) -> float | None:
    """Pairs that the sparse cores of a module attend to, over those that they may see.

    `call` calls the module once; with `last` only the last query counts, as while decoding. None if
    there is no such core, or it gives no counts.
    """
    kept, visible = [], []

    def note(core: Any, tensors: tuple[Tensor, ...], keywords: dict[str, Any], _: object) -> None:
        gates = {name: keywords[name] for name in core.gates if keywords.get(name) is not None}
        counts = core.keys_kept(*tensors, **gates)
        if counts is None:
            return
        queries, keys = tensors[0].shape[2], tensors[1].shape[2]
        most = torch.full((queries,), keys)
        if core.geometry.causal:
            most = torch.arange(1, queries + 1)
        at = slice(-1, None) if last else slice(None)
        kept.append(float(counts[..., at].double().mean()))
        visible.append(float(most[at].double().mean()))

    cores = [
        core
        for core in module.modules()
        if getattr(core, "family", "") == "sparse" and hasattr(core, "keys_kept")
    ]
    hooks = [core.register_forward_hook(note, with_kwargs=True) for core in cores]
    try:
        if cores:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return sum(kept) / sum(visible) if visible else None
