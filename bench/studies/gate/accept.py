"""Intended growths: accepted once with a reason, and from then on up to the same value."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from bench.core.cli.errors import ConfigError, check_known
from bench.core.cli.limits import Amount, Text, one_of
from bench.core.lines import Lines
from bench.studies.gate.rows import HIGHER_IS_WORSE, LATENCY, GateRow, GateVerdict

CHANNELS = (LATENCY, *HIGHER_IS_WORSE)
Exact = Annotated[int, Interval(ge=0, le=10**31)] | Amount
"""A number without noise."""
_GROWTH = ("key", "entry", "cell", "channel", "base", "current", "ratio", "high")
"""Fields that an accepted growth copies from its row."""

_FORM = "'accept=[\"ENTRY/CHANNEL: reason\"]'"


@dataclass(frozen=True, kw_only=True)
class Accept:
    """A request to accept the growth of one channel in every cell of an entry."""

    entry: str
    channel: str
    reason: str

    def __str__(self) -> str:
        return f"{self.entry}/{self.channel}"


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A growth that was accepted, as kept in accepted.jsonl.

    Attributes:
        key: of the cell.
        base, current: the two values; for a time, `ratio` and `high` hold the ratio's interval.
        base_commit: the base that a time was compared with; it is accepted against it only.
        commit: of the tree that grew, with or without uncommitted changes.
        date: UTC, ISO 8601.
    """

    key: Text
    entry: Text
    cell: Text
    channel: Annotated[str, one_of(*CHANNELS)]
    base: Exact | None
    current: Exact | None
    ratio: Amount | None
    high: Amount | None
    reason: Text
    base_commit: Text | None
    commit: Text | None
    date: Text

    def covers(self, row: GateRow, base_commit: str | None) -> bool:
        """Whether a row's growth is the same one, and no larger."""
        if (self.key, self.channel) != (row.key, row.channel):
            return False
        if row.channel == LATENCY:
            is_same_base = base_commit is not None and base_commit == self.base_commit
            # Larger than the accepted growth only if its whole interval is.
            return is_same_base and _is_at_most(row.low, self.high)
        if not HIGHER_IS_WORSE[row.channel]:
            return _is_at_most(row.base, self.base) and _is_at_most(self.current, row.current)
        # From a better base than the accepted one it would be another growth.
        return _is_at_most(self.base, row.base) and _is_at_most(row.current, self.current)


def _is_at_most(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value <= limit


def read_accepts(given: Any) -> tuple[Accept, ...]:
    """Parse ``ENTRY/CHANNEL: reason``, or a list of such texts.

    Raises:
        ConfigError: another form, an unknown channel, or no reason.
    """
    values = given if isinstance(given, list) else [] if given is None else [given]
    return tuple(_read_accept(value) for value in values)


def _read_accept(value: Any) -> Accept:
    if not isinstance(value, str):
        raise ConfigError(f"accept holds {value!r}; it takes texts: {_FORM}.")
    name, colon, reason = value.partition(":")
    entry, slash, channel = name.strip().rpartition("/")
    if not (slash and entry):
        raise ConfigError(f"accept holds {value!r}, which names no ENTRY/CHANNEL. Write {_FORM}.")
    check_known(channel, CHANNELS, f"accept holds {value!r}, and {channel!r} is not a channel.")
    if not (colon and reason.strip()):
        raise ConfigError(
            f"accept holds {value!r} without a reason, which later readers need. Write {_FORM}."
        )
    return Accept(entry=entry, channel=channel, reason=reason.strip())


def check_entries(accepts: Sequence[Accept], known: Collection[str]) -> None:
    """Refuse an entry that is not compared.

    Raises:
        ConfigError: it is none of `known`; the message names the nearest.
    """
    for accept in accepts:
        words = f"accept names the entry {accept.entry!r}, which is not compared."
        check_known(accept.entry, known, words)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A comparison whose accepted growths no longer count as failures.

    Attributes:
        rows: all rows, in their order.
        new: growths that were accepted for the first time, to be stored.
        idle: requests that match no growth.
    """

    rows: tuple[GateRow, ...]
    new: tuple[Accepted, ...]
    idle: tuple[Accept, ...]


def settle(
    rows: Sequence[GateRow],
    accepts: Sequence[Accept],
    kept: Sequence[Accepted],
    *,
    base_commit: str | None,
    commit: str | None,
    date: str,
) -> Settled:
    """Turn accepted growths from failures into ``ACCEPTED``, with their reasons.

    Args:
        rows: as compared.
        accepts: what is accepted now.
        kept: what was accepted before.
        base_commit: the base's commit; None if it has several.
        commit: the current side's, likewise.
        date: UTC, ISO 8601.
    """
    settled, new, idle = list[GateRow](), list[Accepted](), list(accepts)
    for row in rows:
        reasons: list[str] = []
        if row.verdict in (GateVerdict.MORE, GateVerdict.SLOWER):
            said = [a for a in accepts if (a.entry, a.channel) == (row.entry, row.channel)]
            known = [k for k in kept if k.covers(row, base_commit)]
            reasons = [f"{k.reason} (accepted on {k.date[:10]})" for k in known]
            reasons += [accept.reason for accept in said]
            idle = [accept for accept in idle if accept not in said]
            if said and not known:
                own: dict[str, Any] = {name: getattr(row, name) for name in _GROWTH}
                own |= {"reason": reasons[-1], "base_commit": base_commit}
                new.append(Accepted(**own, commit=commit, date=date))
        if reasons:
            row = replace(row, verdict=GateVerdict.ACCEPTED, reason=reasons[-1])
        settled.append(row)
    return Settled(rows=tuple(settled), new=tuple(new), idle=tuple(idle))


def accepted_in(out: Path) -> Lines[Accepted]:
    """The growths that were accepted under a folder of results, ``baselines/accepted.jsonl``."""
    file = out / "baselines" / "accepted.jsonl"
    return Lines[Accepted](file, Accepted, mend="Mend it, or take the line out.")
