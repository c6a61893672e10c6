"""Results of jobs, as types that both sides of the socket use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Generic, TypeVar

from annotated_types import Len

from bench.core.cli.limits import (
    Amount,
    Count,
    Duration,
    Number,
    Pace,
    Seconds,
    Size,
    Text,
    checked,
    one_of,
)
from bench.core.observed import CallFacts, Quality


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of a job.

    Attributes:
        measured_s: seconds inside timed calls, memory and FLOP passes, or training.
    """

    measured_s: Duration

    def observed(self) -> dict[str, Any]:
        """All fields but `measured_s`, which is the cost of the job."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "measured_s"}


R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Job(Generic[R]):
    """A job: its name, and the type of its result."""

    name: str
    result: type[R]


@dataclass(frozen=True, kw_only=True)
class TrialResult(CallFacts, Result):
    """Result of one member's trial."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult(Result):
    """Result of one call of the reference."""


ROUNDS_BEGIN, ROUNDS_END = "rounds", "end of the rounds"
"""Steps before and after the rounds; the worker waits until the parent confirms each."""


def timed_s(samples: Sequence[Sequence[float]], calls_per_sample: Sequence[int]) -> float:
    """Seconds that all samples of some rounds took.

    Samples are seconds per call, by round and member.
    """
    return sum(
        seconds * count
        for of_round in samples
        for seconds, count in zip(of_round, calls_per_sample, strict=True)
    )


def digest_of(samples: Sequence[Sequence[float]]) -> str:
    """Digest of the samples of some rounds."""
    return hashlib.sha256(repr(samples).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class RoundsResult(Result):
    """Result of the rounds of a block; the samples of each round were sent before.

    Attributes:
        num_rounds, digest: number and digest of the rounds that were sent.
        stop_reason: see `bench.core.record.Speed`; ``interrupted`` if a stop was requested.
        warmup_s: seconds of each call of warm-up, by member.
        calls_per_sample: number of calls in a sample, by member.
        calls_per_set: largest number of calls in a sample with the same inputs, by member.
        cpu_per_wall: CPU time over wall time of all samples, by member; None with several
            threads or on a card.
        wrong: why a member's output is wrong after the rounds, by member; None if it is right.
        outside_s: seconds outside of samples, from the first round to the last.
        waited_s: part of these that was spent waiting for the parent, at begin and end.
        load: see `bench.measuring.measure.load.between`.
        is_noisy: whether that load was too high.
    """

    num_rounds: Size
    digest: Text
    stop_reason: Annotated[str, one_of("precise", "budget", "rounds", "interrupted")]
    warmup_s: tuple[tuple[Duration, ...], ...]
    calls_per_sample: tuple[Size, ...]
    calls_per_set: tuple[Size, ...]
    cpu_per_wall: tuple[Amount | None, ...]
    wrong: tuple[str | None, ...]
    outside_s: Duration
    waited_s: Duration
    load: Annotated[dict[Text, Number], Len(0, 100)]
    is_noisy: bool

    @property
    def num_members(self) -> int | None:
        """Number of members that all fields agree on; None if they contradict each other."""
        of_each = (self.warmup_s, self.calls_per_sample, self.calls_per_set)
        counts = {len(each) for each in (*of_each, self.cpu_per_wall, self.wrong)}
        return counts.pop() if len(counts) == 1 else None


@dataclass(frozen=True, kw_only=True)
class PairedRoundsResult(Result):
    """Result of rounds of two source trees; the ratio of each round was sent before.

    Attributes:
        latency_s: seconds per call of the current tree, from one sample.
    """

    latency_s: Seconds


@dataclass(frozen=True, kw_only=True)
class TrainResult(Quality, Result):
    """Result of a training run.

    Raises:
        ValueError: its fields contradict each other.
    """

    def __post_init__(self) -> None:
        if wrong := self.contradiction:
            raise ValueError(wrong)


@dataclass(frozen=True, kw_only=True)
class CeilingResult(Result):
    """Best rates of a device, in the fields of `bench.measuring.measure.roofline.Ceiling`."""

    flops_per_s: Pace
    product: tuple[int, int, int]
    library: str
    library_flops_per_s: tuple[tuple[str, float], ...]
    bytes_per_s: Annotated[tuple[tuple[Count, Pace], ...], Len(1, 100)]
    is_noisy: bool


@dataclass(frozen=True, kw_only=True)
class EstimateResult(Result):
    """Memory that a plugin's cell is expected to need."""

    needed_bytes: Count | None


@dataclass(frozen=True, kw_only=True)
class BuildResult(Result):
    """Plugins' constructors were tried; each refusal was sent before."""


BUILD = Job("build", BuildResult)
ESTIMATE = Job("estimate", EstimateResult)
TRIAL = Job("trial", TrialResult)
PROBE = Job("probe", ProbeResult)
ROUNDS = Job("rounds", RoundsResult)
PAIRED_ROUNDS = Job("paired_rounds", PairedRoundsResult)
TRAIN = Job("train", TrainResult)
CEILING = Job("ceiling", CeilingResult)


def result_from(kind: type[R], flat: Mapping[str, Any]) -> R:
    """A result from plain JSON.

    Raises:
        ValueError: a field is missing, unknown or out of bounds.
    """
    names = {f.name for f in fields(kind)}
    if flat.keys() != names:
        missing, unknown = sorted(names - flat.keys()), sorted(flat.keys() - names)
        raise ValueError(f"not a {kind.__name__}: missing {missing}, unknown {unknown}")
    return checked(kind, {name: _tuples(value) for name, value in flat.items()})


def _tuples(value: Any) -> Any:
    """Turn lists into tuples, which JSON does not have."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
