"""What a reader must know of a row before its numbers: the marks that stand beside it."""

from __future__ import annotations

from collections.abc import Callable

from bench.cell import KernelWorkload
from bench.record import Record, Speed

NOISY = "noisy"
OWN_THREADS = 1.2
"""CPU seconds a second from which a one-thread cell has threads of its own.

A single thread cannot use more than one; the rest is room for the resolution of CPU clocks.
"""


def marks(*records: Record) -> tuple[str, ...]:
    """Everything amiss or unproven in a row, as short phrases, the worst first; each phrase once.

    Args:
        records: the cells of one row; without a result they have no marks.
    """
    timed = [(r, r.result) for r in records if isinstance(r.result, Speed)]
    found = (mark(record, speed) for mark in _WORST_FIRST for record, speed in timed)
    return tuple(dict.fromkeys(phrase for phrase in found if phrase))


def may_be_ranked(record: Record) -> bool:
    """False for a mechanism that computes something else, or other work, than it claims."""
    result = record.result
    return not isinstance(result, Speed) or not (
        result.leaks_future or result.flops_off is not None
    )


def _leak(record: Record, speed: Speed) -> str:
    return "leaks the future" if speed.leaks_future else ""


def _flops(record: Record, speed: Speed) -> str:
    return "" if speed.flops_off is None else f"FLOPs {_short(speed.flops_off)}x off"


def _view(record: Record, speed: Speed) -> str:
    return "output is a view of an input" if speed.is_view else ""


def _oracle(record: Record, speed: Speed) -> str:
    return "checked against itself" if speed.oracle == "itself" else ""


def _extent(record: Record, speed: Speed) -> str:
    """Where the output was compared, if not in all rows at the length that was timed."""
    said = []
    work, length = record.cell.workload, speed.checked_len
    if isinstance(work, KernelWorkload) and length is not None and length < work.seq_len:
        said.append(f"at {length:,} of {work.seq_len:,} tokens")
    if speed.checked_share < 1:
        said.append(f"in {_short(100 * speed.checked_share)} % of rows")
    return f"checked {', '.join(said)}" if said else ""


def _threads(record: Record, speed: Speed) -> str:
    busy = speed.cpu_per_wall
    if record.cell.num_threads > 1 or busy is None or busy < OWN_THREADS:
        return ""
    return f"own threads: {busy:.1f} CPU seconds a second"


def _claims(record: Record, speed: Speed) -> str:
    return "claims untested" if speed.is_foreign else ""


def _noise(record: Record, speed: Speed) -> str:
    return NOISY if speed.is_noisy else ""


_WORST_FIRST: tuple[Callable[[Record, Speed], str], ...] = (
    _leak,
    _flops,
    _view,
    _oracle,
    _extent,
    _threads,
    _claims,
    _noise,
)


def _short(value: float) -> str:
    """Two significant digits, or all of them before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
