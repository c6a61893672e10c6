"""Speeds of recurrences are those of an implementation: runtimes compute the same, often faster."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from attentions.catalogue import mechanism_behind
from bench.core.format import join_names, number
from bench.core.record import Record
from bench.core.rows import recurrent_mechanisms
from bench.publishing.leaderboard import Standing
from bench.publishing.metrics.marks import may_be_ranked
from bench.publishing.metrics.speedup import ratio_between


class Faster(NamedTuple):
    """A row that computes the same as one of ours, and how many times faster in the same rounds."""

    entry: str
    ratio: float


def is_ours(record: Record) -> bool:
    """Whether a record is of a recurrence as this library computes it."""
    return record.cell.mechanism in recurrent_mechanisms()


def faster_implementations(standings: Collection[Standing]) -> dict[str, Faster]:
    """The fastest other implementation of each recurrence of ours, by its row.

    Only where the whole interval of the ratio is above 1.
    """
    found: dict[str, Faster] = {}
    ranked = [one for one in standings if may_be_ranked(one.record)]
    for ours in filter(lambda one: is_ours(one.record), ranked):
        cell = ours.record.cell
        for other in ranked:
            theirs = other.record.cell
            is_same = mechanism_behind(theirs.mechanism) == cell.mechanism != theirs.mechanism
            if not is_same or theirs.hyperparameters != cell.hyperparameters:
                continue
            ratio = ratio_between(other.record, ours.record)
            best = found.get(ours.entry, Faster("", 1.0))
            if ratio and (ratio.low or 0) > 1 and ratio.median > best.ratio:
                found[ours.entry] = Faster(other.entry, ratio.median)
    return found


def in_this_implementation(standings: Sequence[Standing], names: Collection[str]) -> str:
    """Which of some rows are recurrences of ours, and what is faster; empty if none is."""
    ours = [s.entry for s in standings if s.entry in names and is_ours(s.record)]
    if not ours:
        return ""
    faster = faster_implementations(standings)
    said = [f"{faster[n].entry} ({number(faster[n].ratio)}x {n})" for n in ours if n in faster]
    also = f", faster here as {join_names(said)}" if said else ""
    return f"{join_names(ours)} in this implementation{also}"
