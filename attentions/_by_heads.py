"""Plain operators where torch's threads sleep: each thread takes some heads.

Torch shares each operator out, and wakes its threads for it; where they sleep in between, that
takes longer than a small operator does (see `_engine_threads`). A mechanism whose heads know
nothing of each other can be cut there instead, once for all of its operators. Where there is little
to do, one thread alone takes all heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from ._engine import is_ordinary, plain_gradients
from ._engine_processor import has_wide_vectors
from ._engine_threads import run_jobs, work_apart
from ._engine_tiles import is_little

Task = Callable[..., Tensor]
"""From inputs and weights, of some heads or of all, to (B, heads, N, E)."""

_LONG = 2048
"""From so many tokens on, sharing out large operators is faster than a cut."""
_WITH_BACKWARD = 3
"""How much more work a forward pass with a backward pass is than the former alone."""
_HEADS = 1
"""The axis of heads: of inputs and outputs."""


def by_heads(
    task: Task,
    *inputs: Tensor,
    num_features: int,
    weights: Sequence[Tensor] = (),
    large_operators: bool = False,
) -> Tensor:
    """``task(*inputs, *weights)``, cut at its heads where that is faster.

    Args:
        task: differentiable operators under which heads are independent of each other.
        inputs: (B, H, N, ...) each.
        num_features: numbers that the task computes for one token and head, which is its work.
        weights: (H, ...) each.
        large_operators: whether there are few, each on about as much as an input. Sharing these out
            one by one is faster than a cut where sequences are long, and without wide vectors.

    Returns:
        (B, H, N, E).
    """
    tensors = (*inputs, *weights)
    dims = [_HEADS] * len(inputs) + [0] * len(weights)
    batch_size, num_heads, length = inputs[0].shape[:3]
    if not is_ordinary(*tensors) or not work_apart():
        return task(*tensors)
    number = torch.get_num_threads()
    has_backward = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    work = num_features * (_WITH_BACKWARD if has_backward else 1)
    if is_little(batch_size, num_heads, length, num_features=work):
        number = 1
    elif num_heads == 1 or (large_operators and (length >= _LONG or not has_wide_vectors())):
        return task(*tensors)
    if has_backward:
        out: Tensor = _ByHeads.apply(task, number, dims, *tensors)  # type: ignore[no-untyped-call]
        return out
    return _joined(run_jobs(lambda job: task(*job), _cut(number, dims, tensors)), _HEADS)


def _cut(number: int, dims: Sequence[int], tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """So many jobs or fewer, some heads of every tensor each; ``dims`` says where these are."""
    if number == 1:
        return [tuple(tensors)]
    parts = (x.chunk(number, dim) for x, dim in zip(tensors, dims, strict=True))
    return list(zip(*parts, strict=True))


def _joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


class _ByHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, task: Task, number: int, dims: Sequence[int], *tensors: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[3:]
        done = run_jobs(lambda job: _Graph.of(task, job, wanted), _cut(number, dims, tensors))
        ctx.task, ctx.dims, ctx.graphs = task, dims, [graph for graph, _ in done]
        ctx.save_for_backward(*tensors)
        return _joined([out for _, out in done], _HEADS)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted, keep = ctx.needs_input_grad[3:], _keeps_graph()
        tensors = ctx.saved_tensors  # refuses if one of them was changed meanwhile
        if torch.is_grad_enabled():
            return (None, None, None, *plain_gradients(ctx.task, tensors, wanted, grads[0]))
        jobs = list(zip(ctx.graphs, grads[0].chunk(len(ctx.graphs), _HEADS), strict=True))
        by_job = run_jobs(lambda job: job[0].gradients(job[1], keep=keep), jobs)
        if not keep:
            ctx.graphs = None  # they hold the inputs
        found = zip(*by_job, strict=True)
        dims = zip(ctx.dims, wanted, strict=True)
        joined = (_joined(next(found), dim) if needed else None for dim, needed in dims)
        return (None, None, None, *joined)


@dataclass(frozen=True)
class _Graph:
    """Autograd's graph of a job, which no graph around it knows."""

    inputs: Sequence[Tensor]
    root: GradientEdge

    @classmethod
    def of(cls, task: Task, job: Sequence[Tensor], wanted: Sequence[bool]) -> tuple[_Graph, Tensor]:
        """The graph and the task's result."""
        pairs = zip(job, wanted, strict=True)
        inputs = [x.detach().requires_grad_(needed) for x, needed in pairs]
        with torch.enable_grad():
            out = task(*inputs)
        chosen = [x for x in inputs if x.requires_grad]
        return cls(chosen, get_gradient_edge(out)), out.detach()

    def gradients(self, grad_out: Tensor, *, keep: bool) -> tuple[Tensor, ...]:
        """Of the tensors that want some."""
        return torch.autograd.grad(
            self.root, self.inputs, grad_out, retain_graph=keep, materialize_grads=True
        )


def _keeps_graph() -> bool:
    """Whether the backward pass that runs just now may be run again."""
    return torch._C._autograd._get_current_graph_task_keep_graph()
