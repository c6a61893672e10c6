"""Mechanisms in models of Transformers, entered by importing this: see `integrations.transformers`.

import attentions.huggingface
model = AutoModelForCausalLM.from_config(config, attn_implementation="attnbench:linear")
"""

from .integrations.transformers.attach import (
    PREFIX,
    RecurrentCache,
    attach,
    check,
    implementations,
    register,
)

__all__ = ["PREFIX", "RecurrentCache", "attach", "check", "implementations", "register"]
