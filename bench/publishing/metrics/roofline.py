"""A call against its machine's ceilings: what it must move, and how fast it could be at best.

A floor is a lower bound of the latency: the FLOPs that the mathematics needs at the rate of the
fastest product, or the bytes that cannot be avoided at the rate of a copy within the smallest cache
that could hold them. Without a calibration (`bench.calibrate`) there is no floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.core.cell import KernelWorkload
from bench.core.record import Record, Speed
from bench.core.statistics import median
from bench.publishing.metrics import register_metric

_ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}

# How often a pass reads or writes each tensor: of the inputs, of the output, of the parameters.
_FORWARD = (1, 1, 1)
# Reads inputs, the output's gradient and parameters; writes the gradients of the first and last.
_BACKWARD = (2, 1, 2)
# Reads parameters, gradients and both moments of AdamW; writes all but the gradients.
_UPDATE = (0, 0, 7)
_PASSES = {
    "forward": [_FORWARD],
    "prefill": [_FORWARD],
    "decode": [_FORWARD],
    "backward": [_BACKWARD],
    "forward_backward": [_FORWARD, _BACKWARD],
    "train_step": [_FORWARD, _BACKWARD, _UPDATE],
}


@register_metric("min_bytes_moved", better="lower")
def min_bytes_moved(record: Record) -> int | None:
    """Bytes that a call must at least move: each input read once and each output written once.

    Each pass counts by itself, so forward_backward reads its inputs twice. Gates and parameters
    count as inputs, and their gradients as outputs; so does what an optimiser reads and writes. A
    state is written once by a prefill and read once by a decode, which reads the gates of its one
    token; what it writes back is not counted, because a cache of keys only grows by a token.
    Padding need not be moved. All tensors are in the cell's dtype, except the state.
    """
    if not isinstance(record.result, Speed) or record.cell.is_model:
        return None  # a model's minimal traffic is unknown: its layers could share a cache
    speed = record.result
    return least_bytes(
        record.cell.kernel,
        speed.num_parameters or 0,
        speed.state_bytes or 0,
        speed.num_gate_values or 0,
    )


def least_bytes(
    work: KernelWorkload, num_parameters: int, state_bytes: int, num_gate_values: int
) -> int:
    """Bytes that a call must at least move, from its shape, weights, state and gates alone.

    See `min_bytes_moved` for what counts.
    """
    output = work.num_tokens * work.num_heads * work.head_dim
    inputs = output  # x, or q with k and v
    if work.scope == "core":
        kept = work.num_tokens  # a decode brings one key for its one query
        if work.mode != "decode":
            kept = sum(keys * rows for (_, keys), rows in work.row_lens.items())
        inputs += 2 * kept * (work.num_kv_heads or work.num_heads) * work.head_dim
    # Gates are counted for every token of the prompt; a call reads those of its own tokens.
    gates = num_gate_values * work.num_tokens // (work.batch_size * work.seq_len)
    sizes = (inputs + gates, output, num_parameters)
    elements = sum(
        size * times
        for times_each in _PASSES[work.mode]
        for size, times in zip(sizes, times_each, strict=True)
    )
    return elements * _ELEMENT_BYTES[work.dtype] + state_bytes


@register_metric("arithmetic_intensity")
def arithmetic_intensity(record: Record) -> float | None:
    """FLOPs that the mathematics needs, per byte that must be moved."""
    num_bytes = min_bytes_moved(record)
    if not isinstance(record.result, Speed) or record.result.flops is None or not num_bytes:
        return None
    return record.result.flops / num_bytes


def floors_s(record: Record) -> dict[str, float]:
    """Floors in seconds by ``memory`` and by ``compute``; empty if one of them is unknown."""
    ceilings = _ceilings(record)
    num_bytes = min_bytes_moved(record) if ceilings else None
    if num_bytes is None or not isinstance(record.result, Speed) or record.result.flops is None:
        return {}
    work = record.cell.kernel
    return {
        "memory": num_bytes / max(_bytes_per_s(one, num_bytes, work) for one in ceilings),
        "compute": record.result.flops / max(one["flops_per_s"] for one in ceilings),
    }


def times_faster(record: Record) -> tuple[float, bool]:
    """How many times faster than its floor a call was, and whether its ceilings may be too low.

    The ceilings are those of the calibration, or without one those measured before the call's
    rounds; they may be too low if the machine was busy then. A state need not be read as a whole,
    so it is not counted here. 0 if no floor is known, or if nothing is multiplied.
    """
    speed = record.result
    if not isinstance(speed, Speed) or record.cell.is_model or not speed.flops:
        return 0.0, False
    seen = [] if speed.ceiling is None else [speed.ceiling]
    ceilings: Sequence[Mapping[str, Any]] = _ceilings(record) or seen
    latency = median(speed.latency_s)
    if not ceilings or not latency:
        return 0.0, False
    work = record.cell.kernel
    num_bytes = least_bytes(work, speed.num_parameters or 0, 0, speed.num_gate_values or 0)
    floor = max(
        speed.flops / max(one["flops_per_s"] for one in ceilings),
        num_bytes / max(_bytes_per_s(one, num_bytes, work) for one in ceilings),
    )
    return floor / latency, any(one.get("is_noisy", False) for one in ceilings)


@register_metric("floor_s", better="lower")
def floor_s(record: Record) -> float | None:
    """Seconds that a call takes at least on its machine; None without a calibration."""
    floors = floors_s(record)
    return max(floors.values()) if floors else None


@register_metric("roofline_fraction", better="higher")
def roofline_fraction(record: Record) -> float | None:
    """The floor divided by the median latency: 1 is as fast as this machine can be.

    None for what multiplies nothing, such as the controls: no ceiling bounds it.
    """
    floor = floor_s(record)
    if floor is None or not isinstance(record.result, Speed) or not record.result.flops:
        return None
    latency = median(record.result.latency_s)
    return floor / latency if latency else None


def bound(record: Record) -> str | None:
    """Which side sets the floor, ``compute`` or ``memory``; None without a calibration."""
    floors = floors_s(record)
    return max(floors, key=lambda side: floors[side]) if floors else None


def roof(record: Record) -> dict[str, Any] | None:
    """The ceilings of a record's device, dtype and threads; None without a calibration.

    ``flops_per_s`` of the fastest product, and ``bytes_per_s``: the rate of a copy in the smallest
    cache and past all caches, each with its name.
    """
    ceilings = _ceilings(record)
    if not ceilings:
        return None
    levels = [one["bytes_per_s"] for one in ceilings]
    return {
        "flops_per_s": max(one["flops_per_s"] for one in ceilings),
        "bytes_per_s": [
            ("copies in the smallest cache", max(level[0][1] for level in levels)),
            ("copies past all caches", max(level[-1][1] for level in levels)),
        ],
    }


def _ceilings(record: Record) -> list[Mapping[str, Any]]:
    """Ceilings of the record's device and dtype with at most its threads.

    A call with two threads can also run on one, which is faster for small calls. Empty if no
    ceilings were measured with exactly as many threads.
    """
    facts, cell = record.environment, record.cell
    if cell.is_task or cell.is_model:
        return []
    about = (cell.device, facts.get("devices", {}).get(cell.device), cell.kernel.dtype)
    all_of_them = (facts.get("calibration") or {}).get("ceilings", ())
    found = [
        one
        for one in all_of_them
        if about == (one["device"], one["device_name"], one["dtype"])
        # The ceilings of an accelerator do not depend on CPU threads.
        and (one["num_threads"] is None or one["num_threads"] <= cell.num_threads)
    ]
    has_as_many = any(one["num_threads"] in (None, cell.num_threads) for one in found)
    return found if has_as_many else []


def _bytes_per_s(ceiling: Mapping[str, Any], num_bytes: int, work: KernelWorkload) -> float:
    """The rate within the smallest cache that could hold the bytes; past all caches if cold."""
    rates: list[tuple[int, float]] = ceiling["bytes_per_s"]
    fitting = [] if work.cache == "cold" else [rate for size, rate in rates if num_bytes <= size]
    # Not the first that fits: if a larger level was measured to be faster, the floor is lower.
    return max(fitting, default=rates[-1][1])
