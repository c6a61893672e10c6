"""What a kernel cell times: a mechanism built for its shape, its inputs, and one call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from attentions import CallShape, Geometry, MultiHeadAttention, build_attention, build_layer
from bench import inputs
from bench.cell import Cell, KernelWorkload

_WEIGHT_SEED = 0
_INPUT_SEED = 1000
_ROTATED_BYTES = 64 * 2**20


def geometry_of(workload: KernelWorkload) -> Geometry:
    """The geometry that a workload asks a mechanism to be built for."""
    return Geometry(
        num_heads=workload.num_heads,
        head_dim=workload.head_dim,
        seq_len=workload.seq_len,
        causal=workload.causal,
    )


def shape_of(workload: KernelWorkload) -> CallShape:
    """The sizes of one call of a workload."""
    return CallShape(
        batch_size=workload.batch_size,
        num_heads=workload.num_heads,
        query_len=workload.seq_len,
        key_len=workload.seq_len,
        head_dim=workload.head_dim,
        value_dim=workload.head_dim,
        causal=workload.causal,
    )


def build_module(cell: Cell, device: str | None = None) -> nn.Module:
    """The mechanism of a kernel cell, with seeded weights, in its dtype, on its device.

    Args:
        cell: the cell.
        device: another device than the cell's own; ``meta`` allocates nothing.

    Raises:
        ValueError, TypeError: it cannot be built for this shape or these hyperparameters.
        ImportError: an optional package is missing.
    """
    w = cell.kernel
    build = build_layer if w.scope == "layer" else build_attention
    torch.manual_seed(_WEIGHT_SEED)
    module = build(cell.mechanism, geometry_of(w), **cell.hyperparameters)
    # Evaluation where nothing is learned: what happens once in a thousand training steps, such
    # as a redraw of random features, belongs to modes with a backward pass.
    return module.to(device or cell.device, getattr(torch, w.dtype)).train(w.mode != "forward")


def layout_of(module: nn.Module) -> str:
    """The strides that a module's inputs should have."""
    core: Any = module.core if isinstance(module, MultiHeadAttention) else module
    return str(core.capabilities.memory_layout)


class Subject:
    """A built cell that can be called.

    Attributes:
        module: the mechanism, as a core or as a layer.
        sets: input tuples as `inputs.make` returns them; calls rotate over them, so that no call
            finds its own inputs in the cache of values.
    """

    def __init__(self, cell: Cell, *, seq_len: int | None = None, num_sets: int = 1) -> None:
        if seq_len is not None:
            cell = replace(cell, workload=replace(cell.kernel, seq_len=seq_len))
        self.cell = cell
        self.module = build_module(cell)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.sets = [self._inputs(i) for i in range(num_sets)]
        self._next = 0

    def _inputs(self, index: int) -> tuple[Tensor, ...]:
        return inputs.make(
            self.cell.kernel,
            seed=_INPUT_SEED + index,
            dtype=getattr(torch, self.cell.kernel.dtype),
            device=torch.device(self.cell.device),
            layout=layout_of(self.module),
        )

    def rotate(self) -> None:
        """Add input sets until a call does not repeat its predecessor's, memory permitting."""
        size = sum(t.numel() * t.element_size() for t in self.sets[0])
        while len(self.sets) < 4 and size * (len(self.sets) + 1) <= _ROTATED_BYTES:
            self.sets.append(self._inputs(len(self.sets)))

    def forward(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """The output for one input set."""
        out: Tensor = self.module(*tensors[:-1])
        return out

    def gradients(self, out: Tensor, tensors: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        """Gradients of ``sum(out * cotangent)``: of the inputs first, then of the parameters."""
        wanted = [*tensors[:-1], *self.parameters]
        return torch.autograd.grad(out, wanted, tensors[-1], allow_unused=True)

    def call(self) -> Any:
        """Run the mode once, on the next input set."""
        tensors = self.sets[self._next]
        self._next = (self._next + 1) % len(self.sets)
        if self.cell.kernel.mode == "forward":
            with torch.no_grad():
                return self.forward(tensors)
        return self.gradients(self.forward(tensors), tensors)
