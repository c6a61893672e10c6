"""How much memory one call needs. A pass of its own, never while timing."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def peak_memory_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes allocated at the peak of one call, above what was allocated before it.

    On a CPU the exact sum over the allocator's own events, as the profiler sees them, scratch
    inside fused operators included. On CUDA the caching allocator's peak. None elsewhere.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    if device.type != "cpu":
        return None
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        result = call()
    del result
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    current = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            current += event.nbytes()
            peak = max(peak, current)
    return peak


def saved_for_backward_bytes(forward: Callable[[], Tensor], excluded: Iterable[Tensor]) -> int:
    """Bytes of distinct storages that autograd keeps from `forward` until the backward pass.

    Inputs that are kept count, for without this mechanism they could have been freed; `excluded`
    are the parameters, which live anyway.
    """
    skip = {t.untyped_storage().data_ptr() for t in excluded}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in skip:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward()
        del out
    return sum(kept.values())
