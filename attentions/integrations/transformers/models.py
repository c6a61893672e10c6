"""Models of Transformers that compute attention by themselves, whatever ``attn_implementation`` is.

Transformers takes any name for them and says nothing: `AttentionInterface` is never asked. The
result would be the model's own attention under another's name, and without its causal mask, which
the interface leaves to the mechanism.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from ...base import Mechanism

_INTERFACE = "ALL_ATTENTION_FUNCTIONS"
"""Import that shows that a model's code asks the interface."""


def refuse_unheard(config: Any) -> None:
    """Refuse a model that never calls the attention interface, as far as its code tells.

    Args:
        config: of the model that is called; None if not known.

    Raises:
        ValueError: the code beside this configuration has attentions, and asks no interface.
    """
    code = sys.modules.get(type(config).__module__.replace(".configuration_", ".modeling_"))
    if code is None or hasattr(code, _INTERFACE) or not _has_attention(code):
        return
    raise ValueError(
        f"attnbench: {type(config).__name__} belongs to a model that computes its attention by "
        "itself, so that attn_implementation has no effect; one that asks Transformers' "
        "AttentionInterface is needed, or its own attn_implementation, such as 'eager'."
    )


def _has_attention(code: Any) -> bool:
    """Some models are made of others and have none of their own."""
    return any(
        isinstance(found, type)
        and issubclass(found, nn.Module)
        and found.__module__ == code.__name__
        and "attention" in name.lower()
        for name, found in vars(code).items()
    )


def check(model: nn.Module) -> str | None:
    """Part of a built model that ignores ``attn_implementation``, in a sentence; or None.

    Their classes tell, by the code that they stand in; nothing is called.
    """
    ignoring, asking = attentions_of(model)
    if not ignoring:
        return None
    share = "its attention" if not asking else "a part of its attention"
    return (
        f"{type(model).__name__} computes {share} by itself, in {', '.join(ignoring)}, where "
        "attn_implementation has no effect."
    )


def attentions_of(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the classes of attention that ignore the interface, and of those that ask it."""
    classes = {
        type(module)
        for module in model.modules()
        if "attention" in type(module).__name__.lower() and not isinstance(module, Mechanism)
    }
    asking = {cls for cls in classes if any(_asks(base.__module__) for base in cls.__mro__)}
    return sorted(c.__name__ for c in classes - asking), sorted(c.__name__ for c in asking)


def _asks(module: str) -> bool:
    return hasattr(sys.modules.get(module), _INTERFACE)
