"""Which tensor of a model is not finite: what a diverged training run is told with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


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
