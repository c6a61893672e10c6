"""Models of Transformers that compute attention by themselves, whatever ``attn_implementation`` is.

Transformers takes any name for them and says nothing: `AttentionInterface` is never asked. The
result would be the model's own attention under another's name, and without its causal mask, which
the interface leaves to the mechanism.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

_INTERFACE = "ALL_ATTENTION_FUNCTIONS"
"""What the code of a model that asks the interface imports."""


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
