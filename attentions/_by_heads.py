"""Plain operators on some heads at a time: for a near cache, and for threads that sleep.

A mechanism whose heads know nothing of each other can be cut there once for all of its operators.
What is computed of one head may stay in a near cache, and its memory serves the next one; of all
heads at once it is fresh pages for every operator. And where torch's threads sleep between one
operator and the next, it takes longer to wake them than to compute a small one (see
`_engine_threads`): so each thread takes some heads. Where there is little to do, one thread alone
takes all heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from ._engine import plain_gradients
from ._engine_processor import has_wide_vectors, is_intel
from ._engine_tally import Tally
from ._engine_threads import num_few_shared, run_jobs, work_apart
from ._engine_tiles import is_little, is_short
from ._in_float64 import look_at_no_more
from ._ordinary import is_ordinary

Task = Callable[..., Tensor]
"""From inputs and weights, of some heads or of all, to (B, heads, N, E)."""

_LONG = 2048
"""From so many tokens on, sharing out large operators is faster than a cut, if there is a backward
pass."""
_WITH_BACKWARD = 3
"""How much more work a forward pass with a backward pass is than the former alone."""
_JOB = 2**18
"""Numbers that a job computes for its heads and tokens where there is no backward pass: with fewer,
operators would be small. A graph for a backward pass keeps all of them anyway."""
_HEADS = 1
"""The axis of heads: of inputs and outputs."""


def by_heads(
    task: Task,
    *inputs: Tensor,
    num_features: int,
    weights: Sequence[Tensor] = (),
    in_chunks: bool = False,
    large_operators: bool = False,
) -> Tensor:
    """``task(*inputs, *weights)``, cut at its heads where that is faster.

    Args:
        task: differentiable operators under which heads are independent of each other.
        inputs: (B, H, N, ...) each.
        num_features: numbers that the task computes for one token and head, which is its work.
        weights: (H, ...) each.
        in_chunks: whether the task computes some tokens at a time, so that its operators are small
            as it is.
        large_operators: whether there are few, each on about as much as an input. Sharing these out
            one by one is faster than a cut without wide vectors unless they are little, of short
            sequences where threads wake up soon, and where a long sequence has a backward pass.

    Returns:
        (B, H, N, E).
    """
    tensors = (*inputs, *weights)
    dims = [_HEADS] * len(inputs) + [0] * len(weights)
    has_backward = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    number = 0
    if is_ordinary(*tensors):
        number = _num_jobs(
            *inputs[0].shape[:3],
            num_features=num_features,
            has_backward=has_backward,
            in_chunks=in_chunks,
            large_operators=large_operators,
        )
    if number == 0:
        return task(*tensors)
    if has_backward:
        out: Tensor = _ByHeads.apply(task, number, dims, *tensors)  # type: ignore[no-untyped-call]
        return out
    tally = Tally(is_quiet=False)
    parts = run_jobs(tally.of(lambda job: task(*job)), _cut(number, dims, tensors))
    joined = _joined(parts, _HEADS)
    if tally.has_notes and tally.is_finite and joined.dtype == torch.float32:
        look_at_no_more(joined)
    return joined


def _num_jobs(
    batch_size: int,
    num_heads: int,
    length: int,
    *,
    num_features: int,
    has_backward: bool,
    in_chunks: bool,
    large_operators: bool,
) -> int:
    """0 if the task is best left as it is, with operators that several threads share."""
    together = max(1, _JOB // max(1, batch_size * length * num_features))
    number = 1 if has_backward or in_chunks else -(-num_heads // together)
    num_threads = torch.get_num_threads()
    if num_threads == 1:
        return number if number > 1 else 0
    if not work_apart():
        return 0
    if large_operators and is_intel() and is_short(length):
        return 0 if batch_size * num_heads * length * num_features > num_few_shared() else 1
    sizes = batch_size, num_heads, length
    work = num_features * (_WITH_BACKWARD if has_backward else 1)
    if is_little(*sizes, num_features=work):
        return 1
    if num_heads == 1:
        return 0
    is_long_way_back = has_backward and length >= _LONG
    are_slow = not (has_wide_vectors() or is_little(*sizes, num_features=num_features))
    if large_operators and (is_long_way_back or are_slow):
        return 0
    return max(number, num_threads)


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
