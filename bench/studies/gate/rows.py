"""Rows of a comparison, one per number of a cell, however it was compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.studies.gate.verdict import FAILURES, Verdict

LATENCY = "latency"
"""The channel of times; every other channel is the name of a number without noise."""

ACCURACY = "accuracy"
"""The channel of training runs."""


class Named(Protocol):
    """Subject of a row: a cell, or a stored number under a cell's names."""

    @property
    def entry(self) -> str:
        """The leaderboard row's label."""
        ...

    @property
    def mechanism(self) -> str:
        """The registered name."""
        ...

    @property
    def key(self) -> str:
        """Identity of the measurement, as a hash or a name."""
        ...

    def describe(self) -> str:
        """It in words."""
        ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of one cell, compared.

    Attributes:
        cell: in words, such as ``nala seq_len=1024 float32 forward cpu``.
        key: the cell's key.
        channel: ``latency``, or the name of a number without noise.
        ratio: current / base; above 1 is slower, or more.
        low, high: the ratio's interval; the ratio itself where there is no noise.
        base, current: the two numbers in base units, where they mean something by themselves.
        reason: why there is no ratio, or why a growth was accepted.
        samples_s: seconds of base and current, a pair for each process that timed both; not part
            of regress.json.
    """

    entry: str
    mechanism: str
    cell: str
    key: str
    channel: str
    verdict: Verdict
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    base: float | None = None
    current: float | None = None
    reason: str | None = None
    samples_s: tuple[tuple[float, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As written to regress.json."""
        return {
            "entry": self.entry,
            "mechanism": self.mechanism,
            "cell": self.cell,
            "key": self.key,
            "channel": self.channel,
            "verdict": str(self.verdict),
            "ratio": self.ratio,
            "low": self.low,
            "high": self.high,
            "base": self.base,
            "current": self.current,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, flat: Mapping[str, Any]) -> Row:
        """The inverse of `to_dict`; raises a TypeError or ValueError for what is no row."""
        return cls(**{**flat, "verdict": Verdict(flat["verdict"])})


def exit_code(rows: Sequence[Row]) -> int:
    """1 if one row is a failure: no rule needs two."""
    return int(any(row.verdict in FAILURES for row in rows))
