"""Attention mechanisms behind one interface. Needs torch and nothing else.

>>> import torch, attentions
>>> geometry = attentions.Geometry(num_heads=2, head_dim=16, seq_len=49)
>>> core = attentions.build_attention("linear", geometry)
>>> q, k, v = torch.randn(3, 1, 2, 49, 16)
>>> core(q, k, v).shape
torch.Size([1, 2, 49, 16])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .capabilities import Capabilities, Gate

if TYPE_CHECKING:
    from . import functional
    from .base import Attention, AttentionLayer
    from .engines.kernel import KernelCore
    from .engines.pair import PairCore
    from .engines.state import StateCore
    from .geometry import CallShape, Geometry
    from .integrations.replace import replace_attention, replaced_attention
    from .layer import MultiHeadAttention, build_layer
    from .maths.recurrences.transition import Transition
    from .models import ModelInfo, build_model, model_info, model_names
    from .registry import (
        attention_class,
        attention_names,
        build_attention,
        hyperparameters,
        register_attention,
    )

__all__ = [
    "Attention",
    "AttentionLayer",
    "CallShape",
    "Capabilities",
    "Gate",
    "Geometry",
    "KernelCore",
    "ModelInfo",
    "MultiHeadAttention",
    "PairCore",
    "StateCore",
    "Transition",
    "attention_class",
    "attention_names",
    "build_attention",
    "build_layer",
    "build_model",
    "functional",
    "hyperparameters",
    "model_info",
    "model_names",
    "register_attention",
    "replace_attention",
    "replaced_attention",
]

# Loaded on first use: the catalogue can be listed without waiting for torch.
_HOME = {
    **dict.fromkeys(("Attention", "AttentionLayer"), "base"),
    **dict.fromkeys(("CallShape", "Geometry"), "geometry"),
    "KernelCore": "engines.kernel",
    **dict.fromkeys(("MultiHeadAttention", "build_layer"), "layer"),
    **dict.fromkeys(("ModelInfo", "build_model", "model_info", "model_names"), "models"),
    **dict.fromkeys(
        (
            "attention_class",
            "attention_names",
            "build_attention",
            "hyperparameters",
            "register_attention",
        ),
        "registry",
    ),
    "PairCore": "engines.pair",
    "StateCore": "engines.state",
    "Transition": "maths.recurrences.transition",
    **dict.fromkeys(("replace_attention", "replaced_attention"), "integrations.replace"),
}


def __getattr__(name: str) -> Any:
    if name == "functional":
        return importlib.import_module(".functional", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
