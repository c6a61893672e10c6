"""Facts within records and calibrations that numbers are computed from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Required

from annotated_types import Len
from typing_extensions import TypedDict

from bench.core.cli.limits import (
    Amount,
    Count,
    Name,
    Pace,
    Plain,
    Seconds,
    Share,
    Size,
    Text,
    like,
)

Words = Annotated[dict[Text, Text | None], Len(0, 1000)]

STUCK_WITHIN = 0.1
"""Part of the way from chance, or from a partial solution, to all right that is still stuck."""

NOTHING_LEFT = 0.95
"""Share of right answers from which a level no longer counts as a partial solution."""


FRESH = "reference_over_fresh"
"""Key in the load of rounds with a plugin: a reference's best round over that without one."""


class CeilingFacts(TypedDict):
    """Fields of a calibration's ceiling that numbers are computed from."""

    device: Name
    device_name: Text | None
    dtype: Name
    num_threads: Size | None
    flops_per_s: Pace
    bytes_per_s: Annotated[
        list[Annotated[list[Pace], Len(2, 2)]], Len(1, 100)
    ]  # pairs of a size in bytes and the rate at it


class Ceiling(TypedDict):
    """Best rates of a device that were measured just before the rounds of a block."""

    flops_per_s: Pace
    bytes_per_s: Annotated[list[Annotated[list[Pace], Len(2, 2)]], Len(1, 100)]
    is_noisy: bool


class Filtered(TypedDict, total=False):
    """Score and cost of a trained model on a part of its tokens, without fine-tuning.

    `reason` is a sentence where the mechanism cannot be filtered; otherwise the other keys are set:
    `num_tokens` kept, `flops` of all blocks for one example, and the seconds of a batch's forward
    pass, with the choice of tokens and without a filter, measured in alternation.
    """

    filter: Required[Name]
    keep: Required[Share]
    reason: Text
    num_tokens: Size
    accuracy: Amount
    flops: Count
    latency_s: Annotated[list[Seconds], Len(0, 1000)]
    unfiltered_latency_s: Annotated[list[Seconds], Len(0, 1000)]


def why_no_filter(row: Filtered) -> str | None:
    """Why a row of a model's `filtered` cannot be used, as a sentence; None if it can."""
    missing = Filtered.__annotations__.keys() - {"reason"} - row.keys()
    if not row.get("reason") and missing:
        return f"filtered has no {min(missing)} of {row['filter']}"
    if len(row.get("latency_s", ())) != len(row.get("unfiltered_latency_s", ())):
        return f"filtered has latencies of {row['filter']} that do not go in pairs"
    return None


class CalibrationFacts(TypedDict):
    """Fields of a calibration, see `bench.core.calibration`, that numbers are computed from."""

    ceilings: Annotated[list[CeilingFacts], Len(0, 1000)]


class EnvironmentFacts(TypedDict, total=False):
    """Fields of `Environment.to_dict` that anything is computed from."""

    platform: Text
    processor: Text | None
    num_cores: Size
    memory_bytes: Count
    versions: Words
    devices: Words
    allocator: Text | None
    worker_environment: Words
    commit: Annotated[str, like(r"[0-9a-f]{7,64}", "a commit's digits")] | None
    is_dirty: bool | None
    hardware: Plain
    calibration: CalibrationFacts | None


def level_of(score: float, levels: Mapping[str, float], error: float) -> str:
    """The nearest level, if a score lies at the highest one or below; else empty.

    At it: not further above than `STUCK_WITHIN` of the way from there to 1, or than the error if
    that is wider. Levels from `NOTHING_LEFT` on, such as that of a single pair, do not count.
    """
    known = {words: level for words, level in levels.items() if level < NOTHING_LEFT}
    if not known:
        return ""
    highest = max(known.values())
    if score > highest + max(STUCK_WITHIN * (1 - highest), error):
        return ""
    return min(known, key=lambda words: abs(score - known[words]))
