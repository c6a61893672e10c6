"""The engine where every query sees every key: passes over jobs, and what goes between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ._engine_backward import key_gradients, query_gradients
from ._engine_forward import read_queries, sum_keys
from ._engine_kernel import Kernel, Reading, Sums, read_plainly
from ._engine_maps import PeakedMap
from ._engine_threads import run_jobs
from ._engine_tiles import Job, like_in_memory, plan


def forward(
    kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, weights: Sequence[Tensor], *, keep: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output; and what `backward` needs beside the inputs, if asked to keep it."""
    out = like_in_memory(q, v.shape[-1])
    jobs = _jobs(kernel, k)
    if any(job.tokens != jobs[0].tokens for job in jobs):
        return _forward_in_two(kernel, q, k, v, weights, out, jobs)

    def whole_heads(job: Job) -> tuple[Sums, Tensor | None]:
        sums, peak = sum_keys(kernel, job, k, v, weights)
        read_queries(kernel, job.over(q.shape[2]), q, kernel.gather(sums), weights, out)
        return sums, peak

    found = run_jobs(whole_heads, jobs)
    return out, _kept(found, jobs, k) if keep else ()


def _forward_in_two(
    kernel: Kernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    out: Tensor,
    jobs: Sequence[Job],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """As `forward`, where jobs share heads: no query can be read before all of them are done."""
    kept = _kept(run_jobs(lambda job: sum_keys(kernel, job, k, v, weights), jobs), jobs, k)
    readings = kernel.gather(Sums.of(kept))

    def read(job: Job) -> None:
        local = [reading.at(job.row, job.heads) for reading in readings]
        read_queries(kernel, job, q, local, weights, out)

    run_jobs(read, _jobs(kernel, q))
    return out, kept


def _kept(
    found: Sequence[tuple[Sums, Tensor | None]], jobs: Sequence[Job], x: Tensor
) -> tuple[Tensor, ...]:
    peaks = _whole_peak([peak for _, peak in found], jobs, x)
    return (*peaks, *_whole([sums for sums, _ in found], jobs, x).tensors())


def _jobs(kernel: Kernel, x: Tensor, *, backward: bool = False) -> list[Job]:
    return plan(
        *x.shape[:3],
        num_features=kernel.num_features,
        joint_heads=kernel.joint_heads,
        num_threads=torch.get_num_threads(),
        split_tokens=not isinstance(kernel.keys, PeakedMap),
        backward=backward,
    )


def _whole(parts: Sequence[Sums], jobs: Sequence[Job], x: Tensor) -> Sums:
    """(B, H, ...) from the sums of each job's heads and tokens."""
    if len(jobs) == 1:
        return Sums.of([part.unsqueeze(0) for part in parts[0].tensors()])
    whole = Sums.of([t.new_zeros(*x.shape[:2], *t.shape[1:]) for t in parts[0].tensors()])
    for job, part in zip(jobs, parts, strict=True):
        for total, more in zip(whole.tensors(), part.tensors(), strict=True):
            total[job.row, job.heads].add_(more)
    return whole


def _whole_peak(
    parts: Sequence[Tensor | None], jobs: Sequence[Job], x: Tensor
) -> tuple[Tensor, ...]:
    """(B, H, ...) from the peak of each job's heads; nothing from nothing."""
    known = [(job, part) for job, part in zip(jobs, parts, strict=True) if part is not None]
    if not known:
        return ()
    first = known[0][1]
    whole = first.new_empty(*x.shape[:2], *first.shape[1:])
    for job, part in known:
        whole[job.row, job.heads] = part
    return (whole,)


def backward(
    kernel: Kernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    grad_out: Tensor,
) -> list[Tensor]:
    """Gradients of q, k, v and the weights."""
    has_peak = isinstance(kernel.keys, PeakedMap)
    peak, sums = kept[0] if has_peak else None, Sums.of(kept[has_peak:])
    turn_back = None if kernel.turn is None else kernel.turn.conj().resolve_conj()
    grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
    grad_weights = [torch.zeros_like(weight) for weight in weights]

    with torch.enable_grad():
        leaves = Sums.of([x.detach().requires_grad_() for x in sums.tensors()])
        gathered = kernel.gather(leaves)
    readings = [replace(r, sums=r.sums.detached()) for r in gathered]
    jobs = _jobs(kernel, q, backward=True)
    of_queries = run_jobs(
        lambda job: query_gradients(kernel, job, q, readings, weights, grad_out, grad_q, turn_back),
        jobs,
    )
    d_readings = [
        _whole([d_sums[index] for d_sums, _ in of_queries], jobs, q)
        for index in range(len(readings))
    ]
    for job, (_, d_weights) in zip(jobs, of_queries, strict=True):
        _add_to_heads(grad_weights, job, d_weights)

    d_sums = _through_gather(kernel, leaves, gathered, d_readings)
    jobs = _jobs(kernel, k, backward=True)
    of_keys = run_jobs(
        lambda job: key_gradients(
            kernel, job, k, v, peak, d_sums, weights, grad_k, grad_v, turn_back
        ),
        jobs,
    )
    for job, d_weights in zip(jobs, of_keys, strict=True):
        _add_to_heads(grad_weights, job, d_weights)
    return [grad_q, grad_k, grad_v, *grad_weights]


def _through_gather(
    kernel: Kernel, leaves: Sums, gathered: Sequence[Reading], d_readings: Sequence[Sums]
) -> Sums:
    if kernel.gather is read_plainly:
        return d_readings[0]
    return Sums.of(
        torch.autograd.grad(
            [x for reading in gathered for x in reading.sums.tensors()],
            leaves.tensors(),
            [x for d_sums in d_readings for x in d_sums.tensors()],
            allow_unused=True,
            materialize_grads=True,
        )
    )


def _add_to_heads(totals: Sequence[Tensor], job: Job, parts: Sequence[Tensor]) -> None:
    for total, part in zip(totals, parts, strict=True):
        total[job.heads].add_(part)
