"""What a cell is expected to need, from its mechanism's formulas, before anything runs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from bench.cell import Cell, KernelWorkload, TaskWorkload
from bench.measure.stopping import Stopping
from bench.models.facts import facts_of
from bench.subject import build_module, shape_of

_FLOPS_PER_S = 2e10
"""A rate for guessing durations only: a modest core at float32."""

_TRIAL_S = 0.6
_CALLS, _MODEL_CALLS = 5, 20
"""Calls in a trial; a model's also has its mechanisms' slow forms, in float64."""
_TASK_S = 20.0
_COMPILE_S = 10.0


def needed_bytes(cell: Cell) -> int:
    """Memory of a timed cell's inputs, outputs, gradients and temporaries; of a model's weights."""
    if cell.is_model:
        return facts_of(cell).needed_bytes
    w = cell.kernel
    size = torch.empty(0, dtype=getattr(torch, w.dtype)).element_size()
    backward = w.has_backward
    per_tensor = w.batch_size * w.seq_len * w.num_heads * w.head_dim
    inputs = 2 if w.scope == "layer" else 4  # the cotangent is one of them
    tensors = inputs + 1 + (inputs - 1 if backward else 0)
    extra = _meta(cell).extra_elements(shape_of(w), backward=backward)
    return int(tensors * per_tensor * size + extra * max(size, 4)) + _state_bytes(cell)


def _state_bytes(cell: Cell) -> int:
    """Of the state that a prefill fills and a decode reads; a cache of all tokens is large."""
    w = cell.kernel
    if w.mode not in ("prefill", "decode"):
        return 0
    dtype, device = getattr(torch, w.dtype), torch.device("meta")
    state = _meta(cell).init_state(w.batch_size, dtype=dtype, device=device)
    return sum(part.nbytes for part in tree_leaves(state) if isinstance(part, torch.Tensor))


def expected_s(cell: Cell, stopping: Stopping) -> float:
    """Seconds that a cell may take; a guess that is printed and weighs the progress bar."""
    if isinstance(cell.workload, TaskWorkload):
        return _TASK_S * float(cell.workload.settings.get("num_steps", 600)) / 600
    call_s = _call_s(cell)
    rounds_s = max(stopping.min_rounds * call_s, stopping.budget_s)
    compile_s = _COMPILE_S if cell.timed.compile == "inductor" else 0.0
    num_tried = _MODEL_CALLS if cell.is_model else _CALLS
    return _TRIAL_S + num_tried * call_s + rounds_s + 2 * compile_s


def _call_s(cell: Cell) -> float:
    if cell.is_model:
        return (facts_of(cell).flops or 0) / (_FLOPS_PER_S * cell.num_threads)
    flops = int(_meta(cell).executed_flops(shape_of(cell.kernel)))
    return cell.kernel.flops_factor * flops / (_FLOPS_PER_S * cell.num_threads)


def _meta(cell: Cell) -> Any:
    assert isinstance(cell.workload, KernelWorkload)
    return _build_on_meta(_Hashable(cell))


class _Hashable:
    """A cell as a key of the cache: its hyperparameters are a dict."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def __hash__(self) -> int:
        return hash(self.cell.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and self.cell.key == other.cell.key


@lru_cache(maxsize=4096)
def _build_on_meta(cell: _Hashable) -> Any:
    with torch.device("meta"):
        return build_module(cell.cell, device="meta")
