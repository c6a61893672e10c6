"""Which dtypes a device computes in: known of a CUDA card, and tried on a tiny product.

Asked once per process and pair, and only for pairs that somebody wants to measure.
"""

from __future__ import annotations

from functools import cache

import torch

from attentions.capabilities import DTYPES

_BFLOAT16_FROM = (8, 0)
"""Compute capability of the first CUDA cards with bfloat16 in hardware. On older ones torch
imitates it, and a timing would be one of the imitation."""
_SIDE = 8


@cache
def why_no_dtype(device: str, dtype: str) -> str | None:
    """A sentence saying what a device lacks for a dtype, and which it computes in; None if nothing.

    Args:
        device: a torch device that is present, such as ``cpu`` or ``cuda:0``.
        dtype: the name of a floating-point dtype of torch.
    """
    problem = _problem(device, dtype)
    if problem is None:
        return None
    able = ", ".join(name for name in DTYPES if _problem(device, name) is None)
    return f"{device} does not compute in {dtype}: {problem} It computes in {able}."


@cache
def _problem(device: str, dtype: str) -> str | None:
    if dtype == "float32":  # without it nothing can be checked, so nobody is without
        return None
    if dtype == "bfloat16" and device.startswith("cuda") and (old := _too_old(device)):
        return old
    try:
        try_out(device, dtype)
    except torch.OutOfMemoryError:
        return None  # which says nothing of the dtype
    except (RuntimeError, TypeError) as error:  # a missing kernel is the one; MPS raises the other
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"torch says {said.rstrip('.')!r}."
    return None


def _too_old(device: str) -> str | None:
    capability = torch.cuda.get_device_capability(torch.device(device))
    if torch.version.hip is not None or capability >= _BFLOAT16_FROM:
        return None
    have, need = (".".join(map(str, pair)) for pair in (capability, _BFLOAT16_FROM))
    return f"its compute capability is {have}, and {need} is needed."


def try_out(device: str, dtype: str) -> None:
    """A tiny product and a softmax, which is what attention takes of any device.

    Raises:
        RuntimeError, TypeError: torch has no kernel for the pair.
    """
    x = torch.ones(_SIDE, _SIDE, dtype=getattr(torch, dtype), device=device)
    (x @ x).softmax(dim=-1).sum().item()  # reading a number waits for the device
