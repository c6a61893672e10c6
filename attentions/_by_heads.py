"""Plain operators on short sequences, where torch's threads sleep: each thread takes some heads.

Torch shares each operator out, and wakes its threads for it; where they sleep in between, that
takes longer than a small operator does (see `_engine_threads`). A mechanism whose heads know
nothing of each other can be cut there instead, once for all of its operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from ._engine import is_ordinary, plain_gradients
from ._engine_threads import alone_if_threads_sleep, has_wide_vectors, run_jobs, work_apart
from ._engine_tiles import is_short

Task = Callable[..., Tensor]
"""From inputs and weights, of some heads or of all, to (B, heads, N, E)."""

_FEW = 1024
"""So many tokens, counted over heads, are done while a sleeping thread wakes up."""
_HEADS = 1
"""The axis of heads: of inputs and outputs."""


def by_heads(
    task: Task, *inputs: Tensor, weights: Sequence[Tensor] = (), large_operators: bool = False
) -> Tensor:
    """``task(*inputs, *weights)``, cut at its heads where that is faster.

    Args:
        task: differentiable operators under which heads are independent of each other.
        inputs: (B, H, N, ...) each.
        weights: (H, ...) each.
        large_operators: whether there are few, each on about as much as an input. Sharing these out
            one by one is faster than a cut, except with wide vectors.

    Returns:
        (B, H, N, E).
    """
    tensors = (*inputs, *weights)
    dims = [_HEADS] * len(inputs) + [0] * len(weights)
    batch_size, num_heads, length = inputs[0].shape[:3]
    apart = is_ordinary(*tensors) and work_apart() and num_heads > 1 and is_short(length)
    if not apart or (large_operators and not has_wide_vectors()):
        return task(*tensors)
    if batch_size * num_heads * length <= _FEW:
        with alone_if_threads_sleep():
            return task(*tensors)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        out: Tensor = _ByHeads.apply(task, dims, *tensors)  # type: ignore[no-untyped-call]
        return out
    return _forward(task, dims, tensors)


def _forward(task: Task, dims: Sequence[int], tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(run_jobs(lambda job: task(*job), _cut(dims, tensors)), dim=_HEADS)


def _cut(dims: Sequence[int], tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Heads for each thread, of every tensor; ``dims`` says where a tensor has its heads."""
    number = torch.get_num_threads()
    parts = (x.chunk(number, dim) for x, dim in zip(tensors, dims, strict=True))
    return list(zip(*parts, strict=True))


class _ByHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, task: Task, dims: Sequence[int], *tensors: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[2:]
        done = run_jobs(lambda job: _Graph.of(task, job, wanted), _cut(dims, tensors))
        ctx.task, ctx.dims, ctx.graphs = task, dims, [graph for graph, _ in done]
        ctx.save_for_backward(*tensors)
        return torch.cat([out for _, out in done], dim=_HEADS)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted, keep = ctx.needs_input_grad[2:], _keeps_graph()
        tensors = ctx.saved_tensors  # refuses if one of them was changed meanwhile
        if torch.is_grad_enabled():
            return (None, None, *plain_gradients(ctx.task, tensors, wanted, grads[0]))
        jobs = list(zip(ctx.graphs, grads[0].chunk(len(ctx.graphs), _HEADS), strict=True))
        by_job = run_jobs(lambda job: job[0].gradients(job[1], keep=keep), jobs)
        found = zip(*by_job, strict=True)
        dims = zip(ctx.dims, wanted, strict=True)
        joined = (torch.cat(next(found), dim) if needed else None for dim, needed in dims)
        return (None, None, *joined)


@dataclass(frozen=True)
class _Graph:
    """Autograd's graph of a job, which hangs on tensors that have no memory of their own.

    Once it is run, it has let go of all that it kept, as the graph around it has.
    """

    inputs: Sequence[Tensor]
    root: GradientEdge

    @classmethod
    def of(cls, task: Task, job: Sequence[Tensor], wanted: Sequence[bool]) -> tuple[_Graph, Tensor]:
        """The graph and the task's result."""
        inputs = [
            x.new_zeros(()).expand_as(x).requires_grad_(needed)
            for x, needed in zip(job, wanted, strict=True)
        ]
        with torch.enable_grad():
            pairs = zip(inputs, job, strict=True)
            out = task(*(_InPlaceOf.apply(x, value) for x, value in pairs))  # type: ignore[no-untyped-call]
        chosen = [x for x in inputs if x.requires_grad]
        return cls(chosen, get_gradient_edge(out)), out.detach()

    def gradients(self, grad_out: Tensor, *, keep: bool) -> tuple[Tensor, ...]:
        """Of the tensors that want some."""
        return torch.autograd.grad(
            self.root, self.inputs, grad_out, retain_graph=keep, materialize_grads=True
        )


class _InPlaceOf(torch.autograd.Function):
    """A value whose gradient is that of another tensor."""

    @staticmethod
    def forward(ctx: Any, stand_in: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def _keeps_graph() -> bool:
    """Whether the backward pass that runs just now may be run again."""
    return torch._C._autograd._get_current_graph_task_keep_graph()
