"""What is seen of a mechanism's work at some shapes: formulas, counters and slow forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from attentions import CallShape
from attentions.base import AttentionLayer, Mechanism
from bench.costs.multiply_adds import MultiplyAdds, count_multiply_adds
from bench.costs.sample import (
    MEDIUM,
    PAIRS,
    SMALL,
    SPARSE,
    WIDE,
    Sample,
    callable_sample,
    long_sample,
    make_sample,
)
from bench.costs.slow_forms import (
    SlowForm,
    last_step,
    query_by_query,
    readings,
    seen_pairs,
    token_by_token,
)
from bench.measure import flops as counter

TOLERANCE = 0.01
LONG_LENGTHS = (65_536, 32_768, 16_384)
_MAX_OPERATORS = 1_500_000
"""More would take minutes on meta tensors; what loops so much is followed for fewer tokens."""

_MAX_REAL_FLOPS = 40_000_000_000
"""About a second of a modest core."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found at one shape."""

    shape: CallShape
    formula: int
    executed: int | None
    counted: int
    seen: MultiplyAdds
    slow: tuple[SlowForm, ...]

    @property
    def decisive(self) -> tuple[SlowForm, ...]:
        """The slow forms of which one must take what the formula says."""
        return tuple(form for form in self.slow if form.is_decisive)

    @property
    def nearest(self) -> SlowForm:
        """The slow form whose work is nearest to the formula.

        Where there are decisive ones, one of them or one that takes less than they do.
        """
        enough = max((form.flops for form in self.decisive), default=None)
        forms = [form for form in self.slow if enough is None or form.flops <= enough]
        return min(forms, key=lambda form: abs(form.flops - self.formula))

    @property
    def is_confirmed(self) -> bool:
        """Whether that one takes what the formula says."""
        return agree(self.nearest.flops, self.formula)

    @property
    def is_blind(self) -> bool:
        """Whether there may be products that were not seen: a number of zero refutes nothing."""
        saw_none = self.counted == 0 and self.seen.written_out == 0
        return bool(self.seen.opaque) or saw_none

    @property
    def is_counted(self) -> bool:
        """Whether torch's counter saw what is executed by its formula."""
        return self.executed is None or is_counted(
            self.formula, self.executed, self.counted, has_mask=self.seen.has_masked_kernel
        )

    @property
    def is_executed(self) -> bool:
        """Whether that, or all that was multiplied and then summed, is what its formula says."""
        all_of_it = 2 * (self.seen.products + self.seen.written_out)
        return self.is_counted or agree(self.executed or 0, all_of_it)


@dataclass(frozen=True, kw_only=True)
class LongFindings:
    """What was found at a length at which no slow form can be run.

    Attributes:
        device: ``meta``, or ``cpu`` where a mechanism goes another way on meta tensors.
    """

    length: int
    device: str
    formula: int
    executed: int
    counted: int


def agree(ours: int, theirs: int) -> bool:
    """Whether two counts are the same within 1 %."""
    return abs(ours - theirs) <= TOLERANCE * max(abs(ours), abs(theirs))


def is_counted(formula: int, executed: int, counted: int, *, has_mask: bool) -> bool:
    """Whether torch's counter confirms what is executed by its formula.

    A fused kernel leaves out what its mask hides, in tiles of its own; the counter takes it for a
    full one. What is executed is then between what is needed and what was counted.
    """
    if agree(executed, counted):
        return True
    slack = 1 + TOLERANCE
    return has_mask and formula <= slack * executed and executed <= slack * counted


def look(kind: type[Mechanism], form: str) -> Iterator[Findings]:
    """What is found at each of some shapes."""
    can, is_core = kind.capabilities, not issubclass(kind, AttentionLayer)
    if form == "decode":
        yield _find_step(callable_sample(kind, WIDE, causal=True, seq_len=24))
        return
    ways: list[Way]
    causal = form == "causal"
    other = 20 if form == "cross" else None
    yield _find(callable_sample(kind, SMALL, causal=causal, batch_size=2, key_len=other))
    if causal and (can.recurrent or not is_core):
        ways = [token_by_token] if can.recurrent else []
        yield _find(callable_sample(kind, WIDE, causal=True), *ways)
    ways = [seen_pairs] if is_core else []
    if causal and is_core and can.cross and can.bidirectional:
        ways.append(query_by_query)
    pairs = _find(callable_sample(kind, PAIRS, causal=causal, key_len=other), *ways)
    yield pairs
    if form == "cross":
        return
    is_softmax = any(slow.name == "pair by pair" for slow in pairs.slow)
    ways = [seen_pairs] if is_softmax else []
    yield _find(callable_sample(kind, MEDIUM, causal=causal), *ways)
    if is_softmax and _is_sparse(kind, causal):
        yield _find(callable_sample(kind, SPARSE, causal=causal), seen_pairs)


Way = Callable[[Sample], list[SlowForm]]


def _is_sparse(kind: type[Mechanism], causal: bool) -> bool:
    """Whether, by the formula, pairs are left out of many tokens that are there of a few."""
    per_pair = []
    for length in (24, SPARSE.seq_len):
        geometry = replace(SPARSE, causal=causal, seq_len=length, grid=(0, 0))
        sample = make_sample(kind, geometry, 1)
        per_pair.append(sample.mechanism.flops(sample.shape) / sample.shape.num_pairs)
    return bool(per_pair[1] < 0.9 * per_pair[0])


def _find(sample: Sample, *ways: Way) -> Findings:
    """Count a call of a sample, and some slow ways to the same."""
    mechanism, usual = sample.mechanism, _usual(sample)
    with torch.no_grad():
        counted = counter.count(usual.call).counted_flops
        seen = count_multiply_adds(usual.call)
    return Findings(
        shape=sample.shape,
        formula=mechanism.flops(sample.shape),
        executed=mechanism.executed_flops(sample.shape),
        counted=counted,
        seen=seen,
        slow=(*readings(seen), *(form for way in ways for form in way(sample))),
    )


def _usual(sample: Sample) -> Sample:
    """In the dtype that is timed: an implementation may go another way in float64."""
    dtypes = sample.mechanism.capabilities.dtypes
    return sample.to(torch.float32) if "float32" in dtypes else sample


def _find_step(sample: Sample) -> Findings:
    """Count the last step of a sample: it is an algorithm itself, and has one formula only."""
    call = last_step(_usual(sample))
    with torch.no_grad():
        counted, seen = counter.count(call).counted_flops, count_multiply_adds(call)
    return Findings(
        shape=sample.shape,
        formula=sample.mechanism.decode_flops(sample.shape),
        executed=None,
        counted=counted,
        seen=seen,
        slow=tuple(readings(seen, is_decisive=True)),
    )


def look_at_long(kind: type[Mechanism], *, causal: bool) -> LongFindings | None:
    """What is executed at the longest length that can be followed.

    On meta tensors, which hold no values; on real ones where a mechanism goes another way on meta
    tensors than on a CPU and is not too much work. None where neither will do.
    """
    try:
        is_alike = len({_count(kind, 300, causal, on) for on in ("meta", "cpu")}) == 1
        if not is_alike:
            return _follow_real(kind, causal)
        half, full = (_operators(kind, length, causal) for length in (2048, 4096))
        growth = max(1.0, full / half)
        for length in LONG_LENGTHS:
            doublings = (length // 4096).bit_length() - 1
            if full * growth**doublings <= _MAX_OPERATORS:
                return _follow(kind, length, causal, "meta")
    except Exception:  # foreign code that needs values, or builds tensors of its own on the CPU
        return None
    return None


def _follow_real(kind: type[Mechanism], causal: bool) -> LongFindings | None:
    for length in LONG_LENGTHS:
        sample = long_sample(kind, length, causal=causal)
        if sample.mechanism.executed_flops(sample.shape) <= _MAX_REAL_FLOPS:
            return _follow(kind, length, causal, "cpu")
    return None


def _follow(kind: type[Mechanism], length: int, causal: bool, device: str) -> LongFindings:
    sample = long_sample(kind, length, causal=causal)
    return LongFindings(
        length=length,
        device=device,
        formula=sample.mechanism.flops(sample.shape),
        executed=sample.mechanism.executed_flops(sample.shape),
        counted=_count(kind, length, causal, device),
    )


@torch.no_grad()
def _count(kind: type[Mechanism], length: int, causal: bool, device: str) -> int:
    sample = _usual(long_sample(kind, length, causal=causal)).to(device)
    return counter.count(sample.call).counted_flops


@torch.no_grad()
def _operators(kind: type[Mechanism], length: int, causal: bool) -> int:
    sample = _usual(long_sample(kind, length, causal=causal)).to("meta")
    return max(1, counter.count(sample.call).num_operators)
