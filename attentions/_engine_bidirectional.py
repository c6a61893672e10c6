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
from ._engine_threads import alone_if_threads_sleep, run_jobs, threads_sleep
from ._engine_tiles import Job, add_to_heads, are_few, like_in_memory, plan, whole


def forward(
    kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, weights: Sequence[Tensor], *, keep: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output; and what `backward` needs beside the inputs, if asked to keep it."""
    out, jobs = like_in_memory(q, v.shape[-1]), _jobs(kernel, k)
    if any(job.tokens != jobs[0].tokens for job in jobs):
        return _forward_in_two(kernel, q, k, v, weights, out, jobs)

    def attend(job: Job) -> tuple[Tensor, ...]:
        sums, peak = sum_keys(kernel, job, k, v, weights)
        read_queries(kernel, job.over(q.shape[2]), q, kernel.gather(sums), weights, out)
        return (*(() if peak is None else (peak,)), *sums.tensors())

    found = run_jobs(attend, jobs, by_one=are_few(jobs, kernel.num_features))
    return out, tuple(whole(found, jobs, k)) if keep else ()


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
    found = run_jobs(lambda job: sum_keys(kernel, job, k, v, weights)[0].tensors(), jobs)
    kept = whole(found, jobs, k)
    readings = kernel.gather(Sums.of(kept))

    def read(job: Job) -> None:
        local = [reading.at(job.row, job.heads) for reading in readings]
        read_queries(kernel, job, q, local, weights, out)

    run_jobs(read, _jobs(kernel, q))
    return out, tuple(kept)


def _jobs(kernel: Kernel, x: Tensor, *, backward: bool = False) -> Sequence[Job]:
    return plan(
        *x.shape[:3],
        num_features=kernel.num_features,
        joint_heads=kernel.joint_heads,
        num_threads=torch.get_num_threads(),
        threads_sleep=threads_sleep(),
        may_split=not isinstance(kernel.keys, PeakedMap),
        backward=backward,
    )


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
        by_one=are_few(jobs, kernel.num_features),
    )
    d_readings = [
        Sums.of(whole([d_sums[index].tensors() for d_sums, _ in of_queries], jobs, q))
        for index in range(len(readings))
    ]
    for job, (_, d_weights) in zip(jobs, of_queries, strict=True):
        add_to_heads(grad_weights, job, d_weights)

    with alone_if_threads_sleep():
        d_sums = _through_gather(kernel, leaves, gathered, d_readings)
    jobs = _jobs(kernel, k, backward=True)
    of_keys = run_jobs(
        lambda job: key_gradients(
            kernel, job, k, v, peak, d_sums, weights, grad_k, grad_v, turn_back
        ),
        jobs,
        by_one=are_few(jobs, kernel.num_features),
    )
    for job, d_weights in zip(jobs, of_keys, strict=True):
        add_to_heads(grad_weights, job, d_weights)
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
