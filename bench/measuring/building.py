"""Build the mechanism of a kernel cell, for the geometry of its workload."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import nn

from attentions import CallShape, Geometry, attention_class
from bench.core.cell import ORIGINAL, Cell, KernelWorkload
from bench.measuring.device import device_named

_WEIGHT_SEED = 0


def geometry_of(workload: KernelWorkload) -> Geometry:
    """The geometry that a workload asks a mechanism to be built for."""
    return Geometry(
        num_heads=workload.num_heads,
        head_dim=workload.head_dim,
        seq_len=workload.seq_len,
        causal=workload.causal,
        num_kv_heads=workload.num_kv_heads or workload.num_heads,
    )


def shape_of(workload: KernelWorkload) -> CallShape:
    """The sizes of one call of a workload, padding included."""
    return CallShape(
        batch_size=workload.batch_size,
        num_heads=workload.num_heads,
        query_len=workload.seq_len,
        key_len=workload.num_keys,
        head_dim=workload.head_dim,
        value_dim=workload.head_dim,
        causal=workload.causal,
    )


def build_module(
    cell: Cell, device: str | None = None, library: ModuleType | None = None
) -> nn.Module:
    """The mechanism of a kernel cell, with seeded weights, in its dtype, on its device.

    `device` may be another than the cell's own; ``meta`` allocates nothing. `library` is another
    copy of the `attentions` package to build it from.

    Raises:
        ValueError, TypeError: it cannot be built for this shape or these hyperparameters.
        ImportError: an optional package is missing.
    """
    w = cell.kernel
    attentions: Any = library or importlib.import_module("attentions")
    settings: dict[str, Any] = {"num_heads": w.num_heads, "head_dim": w.head_dim}
    settings |= {"seq_len": w.seq_len, "causal": w.causal}
    if w.num_kv_heads is not None:  # another library may be older than this field
        settings["num_kv_heads"] = w.num_kv_heads
    geometry = attentions.Geometry(**settings)
    torch.manual_seed(_WEIGHT_SEED)
    module: Any = attentions.build_attention(cell.mechanism, geometry, **cell.hyperparameters)
    if w.scope == "layer" and "core" in module.capabilities.scopes:  # the same around every core
        module = attentions.MultiHeadAttention(module)
    # Eval mode where nothing is learned: rare work of training, such as redrawing random
    # features, belongs to modes with a backward pass.
    module = module.to(device_named(device or cell.device).place, getattr(torch, w.dtype))
    built: nn.Module = module.train(w.has_backward)
    return built


def layout_of(module: nn.Module) -> str:
    """Memory layout of a module's inputs: ``bhnd`` or ``bnhd``, see `Capabilities`."""
    core: Any = getattr(module, "core", module)
    return str(core.capabilities.memory_layout)


def is_foreign(cell: Cell) -> bool:
    """Whether a mechanism is a plugin's, whose code runs in workers only."""
    if cell.mechanism == ORIGINAL:
        return False
    root = attention_class(cell.mechanism).__module__.partition(".")[0]
    return root != attention_class.__module__.partition(".")[0]
