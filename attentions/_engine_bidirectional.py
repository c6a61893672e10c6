"""The engine where every query sees every key: passes over jobs, and what goes between them.

What is a single tile lies in a cache, and there reading features is cheaper than computing them
once more. So such a call keeps them for its backward pass, as autograd would, if the maps can do
with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ._engine_backward import key_gradients, query_gradients
from ._engine_forward import Output, read_queries, sum_keys
from ._engine_kernel import Kernel, Reading, Sums, read_plainly
from ._engine_maps import PeakedMap
from ._engine_memory import Block, cushion, in_large_pages, is_never_kept, like_in_memory
from ._engine_tally import Tally
from ._engine_threads import Sharing, alone_if_threads_sleep, nothing, run_jobs, threads_sleep
from ._engine_tiles import Job, add_to_heads, is_one_tile, plan, sharing_of, whole


def forward(
    kernel: Kernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    tally: Tally,
    *,
    keep: bool,
    onto: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output, or ``onto`` with the output added; and what `backward` needs, if asked for it."""
    if onto is None:
        out = Output(like_in_memory(q, v.shape[-1]), tally)
    else:
        out = Output(onto, tally, adds=True)
    jobs = _jobs(kernel, k, keep=keep)
    if any(job.tokens != jobs[0].tokens for job in jobs):
        return _forward_in_two(kernel, q, k, v, weights, out, jobs)

    keeps_features = keep and _keeps_features(kernel, q, k)

    def attend(job: Job) -> tuple[Tensor, ...]:
        features: list[Tensor] | None = [] if keeps_features else None
        sums, peak = sum_keys(kernel, job, k, v, weights, features)
        whole_job = job.over(q.shape[2])
        read_queries(kernel, whole_job, q, kernel.gather(sums), weights, out, features)
        return (*(() if peak is None else (peak,)), *sums.tensors(), *(features or ()))

    found = run_jobs(
        tally.of(attend),
        jobs,
        sharing=_sharing(kernel, k, keep=keep),
        held=_cushion(kernel, jobs, k),
    )
    return out.tensor, tuple(whole(found, jobs, k)) if keep else ()


def _cushion(
    kernel: Kernel, jobs: Sequence[Job], x: Tensor, *, backward: bool = False
) -> Callable[[], Block | None]:
    """What each thread holds while it does jobs on x, (B, H, N, D)."""
    is_long = is_never_kept(x)
    if not (is_long or backward):
        return nothing
    num_alive = kernel.num_alive(backward=backward, is_long=is_long)
    return lambda: cushion(jobs[0], x, num_alive)


def _keeps_features(kernel: Kernel, q: Tensor, k: Tensor) -> bool:
    """Whether features are kept, those of keys and then those of queries."""
    return kernel.keeps and all(is_one_tile(*x.shape[:3]) for x in (q, k))


def _forward_in_two(
    kernel: Kernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    out: Output,
    jobs: Sequence[Job],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """As `forward`, where jobs share heads: no query can be read before all of them are done."""
    found = run_jobs(
        lambda job: sum_keys(kernel, job, k, v, weights)[0].tensors(),
        jobs,
        held=_cushion(kernel, jobs, k),
    )
    kept = whole(found, jobs, k)
    readings = kernel.gather(Sums.of(kept))

    def read(job: Job) -> None:
        local = [reading.at(job.row, job.heads) for reading in readings]
        read_queries(kernel, job, q, local, weights, out)

    jobs = _jobs(kernel, q)
    run_jobs(out.tally.of(read), jobs, held=_cushion(kernel, jobs, q))
    return out.tensor, tuple(kept)


def _jobs(
    kernel: Kernel, x: Tensor, *, keep: bool = False, backward: bool = False
) -> Sequence[Job]:
    sharing = Sharing.OPERATORS
    if threads_sleep():
        sharing = _sharing(kernel, x, keep=keep or backward)
    return plan(
        *x.shape[:3],
        num_features=kernel.num_features,
        joint_heads=kernel.joint_heads,
        num_threads=1 if sharing is Sharing.NONE else torch.get_num_threads(),
        apart=sharing is Sharing.JOBS,
        may_split=not isinstance(kernel.keys, PeakedMap),
        backward=backward,
        tokens_first=x.stride(1) < x.stride(2),
    )


def _sharing(kernel: Kernel, x: Tensor, *, keep: bool = True) -> Sharing:
    """Keep: whether there is a backward pass."""
    return sharing_of(
        *x.shape[:3],
        num_features=kernel.num_features,
        few_operators=kernel.keeps,
        joint_heads=kernel.joint_heads,
        has_backward=keep,
    )


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What a backward pass finds of its forward pass, (B, H, ...) each.

    Attributes:
        sums: over keys.
        peak: of the keys, if their map has one.
        key_features: what `FeatureMap.linearised_from` takes, if it was kept, and after it the same
            rotated, if the kernel has a turn.
        query_features: those of the queries.
    """

    sums: Sums
    peak: Tensor | None
    key_features: Sequence[Tensor]
    query_features: Sequence[Tensor]

    @classmethod
    def of(cls, tensors: Sequence[Tensor], *, has_peak: bool, copies: int) -> _Kept:
        """From the tensors in the order in which `forward` returns them.

        Args:
            tensors: all of them.
            has_peak: whether the first one is a peak.
            copies: of the features of each side, rotated ones included.
        """
        peak, rest = (tensors[0], tensors[1:]) if has_peak else (None, tensors)
        num_parts = len(rest) // (2 + 2 * copies)
        sums, features = rest[: 2 * num_parts], rest[2 * num_parts :]
        half = len(features) // 2
        return cls(
            sums=Sums.of(sums),
            peak=peak,
            key_features=features[:half],
            query_features=features[half:],
        )


def backward(
    kernel: Kernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    grad_out: Tensor,
    tally: Tally,
) -> list[Tensor]:
    """Gradients of q, k, v and the weights."""
    copies = 1 if kernel.turn is None else 2
    known = _Kept.of(
        kept,
        has_peak=isinstance(kernel.keys, PeakedMap),
        copies=copies if _keeps_features(kernel, q, k) else 0,
    )
    grad_q, grad_k, grad_v = (in_large_pages(torch.empty_like(x)) for x in (q, k, v))
    grad_weights = [torch.zeros_like(weight) for weight in weights]

    def of_queries(job: Job, readings: Sequence[Reading]) -> tuple[list[Sums], list[Tensor]]:
        features = known.query_features
        return query_gradients(kernel, job, q, readings, weights, features, grad_out, grad_q, tally)

    def of_keys(job: Job, d_sums: Sums) -> list[Tensor]:
        features = known.key_features
        return key_gradients(
            kernel, job, k, v, known.peak, d_sums, weights, features, grad_k, grad_v, tally
        )

    jobs_q, jobs_k = _jobs(kernel, q, backward=True), _jobs(kernel, k, backward=True)
    if _have_the_same_heads(jobs_q, jobs_k):

        def of_both(jobs: tuple[Job, Job]) -> tuple[list[Tensor], list[Tensor]]:
            job, job_k = jobs
            readings, back = _gathered(kernel, known.sums.at(job.row, job.heads))
            d_readings, d_weights = of_queries(job, readings)
            return d_weights, of_keys(job_k, back(d_readings))

        pairs = list(zip(jobs_q, jobs_k, strict=True))
        of_pairs = run_jobs(
            tally.of(of_both),
            pairs,
            sharing=_sharing(kernel, q),
            held=_cushion(kernel, jobs_q, q, backward=True),
        )
        for job, both in zip(jobs_q, of_pairs, strict=True):
            for d_weights in both:
                add_to_heads(grad_weights, job, d_weights)
        return [grad_q, grad_k, grad_v, *grad_weights]

    with alone_if_threads_sleep():
        readings, back = _gathered(kernel, known.sums)
    found = run_jobs(
        tally.of(lambda job: of_queries(job, [r.at(job.row, job.heads) for r in readings])),
        jobs_q,
        sharing=_sharing(kernel, q),
        held=_cushion(kernel, jobs_q, q, backward=True),
    )
    d_readings = [
        Sums.of(whole([d_sums[index].tensors() for d_sums, _ in found], jobs_q, q))
        for index in range(len(readings))
    ]
    with alone_if_threads_sleep():
        d_sums = back(d_readings)
    by_job = run_jobs(
        tally.of(lambda job: of_keys(job, d_sums.at(job.row, job.heads))),
        jobs_k,
        sharing=_sharing(kernel, k),
        held=_cushion(kernel, jobs_k, k, backward=True),
    )
    for jobs, gradients in ((jobs_q, [d_weights for _, d_weights in found]), (jobs_k, by_job)):
        for job, d_weights in zip(jobs, gradients, strict=True):
            add_to_heads(grad_weights, job, d_weights)
    return [grad_q, grad_k, grad_v, *grad_weights]


def _have_the_same_heads(jobs: Sequence[Job], others: Sequence[Job]) -> bool:
    """Whether each job has heads of its own, those of the other's at its place."""
    heads = [(job.row, job.heads.start, job.heads.stop) for job in jobs]
    return len(set(heads)) == len(heads) and heads == [
        (job.row, job.heads.start, job.heads.stop) for job in others
    ]


def _gathered(
    kernel: Kernel, sums: Sums
) -> tuple[Sequence[Reading], Callable[[Sequence[Sums]], Sums]]:
    """What queries read; and what takes the gradients of that to those of the sums."""
    if kernel.gather is read_plainly:
        return read_plainly(sums), lambda d_readings: d_readings[0]
    with torch.enable_grad():
        leaves = Sums.of([x.detach().requires_grad_() for x in sums.tensors()])
        gathered = kernel.gather(leaves)

    def back(d_readings: Sequence[Sums]) -> Sums:
        found = torch.autograd.grad(
            [x for reading in gathered for x in reading.sums.tensors()],
            leaves.tensors(),
            [x for d_sums in d_readings for x in d_sums.tensors()],
            allow_unused=True,
            materialize_grads=True,
        )
        return Sums.of(found)

    return [replace(r, sums=r.sums.detached()) for r in gathered], back
