"""Faults of a trained model: collapsed keys, a leak of the future, infinities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bench.measuring.tasks.base import Batch, Task
from bench.measuring.tasks.model import Backbone

MOST = 0.95
"""The share of key features at the floor above which keys look alike. `performer` at 98 % accuracy
had 0.81 of them there, all runs at one in four had 0.99 (recall, layer 0)."""


@torch.no_grad()
def has_collapsed(model: nn.Module, batch: Batch) -> bool | None:
    """Whether nearly all key features of a batch lie at the floor, in any layer of a model.

    A core with a floor has a method ``floor_share(k)``: how many of the features of these keys, (B,
    H, N, D), lie within 1 % of it, from 0 to 1; None where that says nothing. Without such a core
    None.
    """
    shares: list[float] = []
    cores = [module for module in model.modules() if hasattr(module, "floor_share")]
    watches = [core.register_forward_pre_hook(_watch(shares)) for core in cores]
    try:
        model(batch.inputs, batch.positions)
    finally:
        for watch in watches:
            watch.remove()
    return any(share > MOST for share in shares) if shares else None


def _watch(shares: list[float]) -> Callable[[Any, tuple[Any, ...]], None]:
    def watch(core: Any, inputs: tuple[Any, ...]) -> None:
        share = core.floor_share(inputs[1])
        if share is not None:
            shares.append(share)

    return watch


ROUNDINGS = 64
"""Number of roundings, or of differences between equal calls, by which the past may change with the
future.
"""


@torch.no_grad()
def leaks_future(model: Backbone, task: Task) -> bool:
    """Whether other tokens later on change what any layer's mixer gave before."""
    if not task.causal or task.seq_len < 2:
        return False
    model.eval()
    some = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, task.seq_len, task.recipe.embed_dim, generator=generator)
    x = drawn.to(some.device, some.dtype)  # (B, N, C)
    past = min(task.seq_len - 1, 5 * task.seq_len // 8 | 1)  # ends within a chunk
    later = torch.cat([x[:, :past], -2 * x[:, past:]], dim=1)
    return any(_moves_past(mixer, x, later, past) for mixer in model.mixers)


def _moves_past(mixer: nn.Module, x: Tensor, later: Tensor, past: int) -> bool:
    """Whether a mixer's first `past` outputs differ by more than rounding between x and later."""
    first, again, other = (mixer(tokens)[:, :past] for tokens in (x, x, later))
    allowed = max(_moved(first, again), torch.finfo(x.dtype).eps)
    return _moved(first, other) > ROUNDINGS * allowed


def _moved(ours: Tensor, theirs: Tensor) -> float:
    """The most by which a token's output moves, relative to its norm."""
    return float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp_min(1e-30)).max())


def first_not_finite(model: nn.Module, call: Callable[[], object]) -> str:
    """The first parameter that is not finite, else the first output of a module, in words.

    `call`, its forward pass on the batch with which it diverged, is run once more without
    gradients.
    """
    wrong = [name for name, parameter in model.named_parameters() if not _is_finite(parameter)]
    if wrong:
        others = f" and {len(wrong) - 1} more parameters" if len(wrong) > 1 else ""
        return f"the parameter {wrong[0]}{others} is not finite"
    seen: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            if not all(map(_is_finite, tree_leaves(output))):
                seen.append(f"the output of {name} ({type(module).__name__}) is not finite")

        return after

    hooks = [
        m.register_forward_hook(look(name or "the model")) for name, m in model.named_modules()
    ]
    try:
        with torch.no_grad():
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return seen[0] if seen else ""


def _is_finite(value: object) -> bool:
    return not isinstance(value, Tensor) or bool(value.isfinite().all())
