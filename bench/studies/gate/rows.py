"""Rows of a comparison, one per number of a cell, however it was compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.core.cell import Cell
from bench.studies.gate.verdict import FAILURES, GateVerdict

LATENCY = "latency"
"""The channel of times; every other channel is the name of a number without noise."""

ACCURACY = "accuracy"
"""The channel of training runs."""

LOSS = "loss"
"""The channel of a training run whose score is in a unit, of which less is better."""


def channel_of(cell: Cell) -> str:
    """The channel under which a cell as a whole is new, gone, broken or incomparable."""
    return ACCURACY if cell.is_task else LATENCY


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One number of one cell, compared.

    Attributes:
        cell: in words, such as ``nala seq_len=1024 float32 forward cpu``.
        key: the cell's key.
        channel: ``latency``, or the name of a number without noise.
        ratio: current / base; above 1 is slower, or more.
        low, high: the ratio's interval; the ratio itself where there is no noise.
        base, current: the two numbers in base units, where they mean something by themselves.
        reason: why there is no ratio, or why a growth was accepted.
    """

    entry: str
    mechanism: str
    cell: str
    key: str
    channel: str
    verdict: GateVerdict
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    base: float | None = None
    current: float | None = None
    reason: str | None = None

    @classmethod
    def of(cls, cell: Cell, channel: str, verdict: GateVerdict, **numbers: Any) -> GateRow:
        """A row under a cell's names; the other fields by keyword."""
        return cls(
            entry=cell.entry,
            mechanism=cell.mechanism,
            cell=cell.describe(),
            key=cell.key,
            channel=channel,
            verdict=verdict,
            **numbers,
        )

    def to_dict(self) -> dict[str, Any]:
        """As written to regress.json."""
        return asdict(self) | {"verdict": str(self.verdict)}


def exit_code(rows: Sequence[GateRow]) -> int:
    """The exit code: 1 if any row is a failure, else 0."""
    return int(any(row.verdict in FAILURES for row in rows))
