"""A mechanism's FLOP formulas against torch's counter, and against slow forms of it.

`executed_flops` must equal torch's count. `flops`, which the mathematics needs, must equal it too,
or the work of a slow form that gives the same output and wastes nothing. The check of the
claim "flops" runs this proof, and `attnbench verify flops=true` prints its numbers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from ..base import AttentionLayer, Mechanism
from ..geometry import CallShape, Geometry
from .slow_forms import (
    NotCallable,
    Sample,
    SlowForm,
    Work,
    callable_sample,
    last_step,
    make_sample,
    pair_by_pair,
    query_by_query,
    token_by_token,
    without_zeros,
    work_of,
)

TOLERANCE = 0.01
SMALL = Geometry(num_heads=2, head_dim=16, value_dim=8, seq_len=12)
# One head, so that pairs can be told apart.
PAIRS = Geometry(num_heads=1, head_dim=16, value_dim=8, seq_len=24)
# Several chunks or tiles, and a remainder.
MEDIUM = Geometry(num_heads=1, head_dim=16, seq_len=300)
# More tokens than any window or block in use.
SPARSE = Geometry(num_heads=1, head_dim=8, seq_len=600)
# Beyond the lengths at which implementations switch to another algorithm.
FAR = Geometry(num_heads=1, head_dim=16, seq_len=2100)
# So wide that the state costs more than a token's pair with itself, which a chunk adds.
WIDE = Geometry(num_heads=1, head_dim=256, seq_len=4)
WIDE_STEP = replace(WIDE, seq_len=24, causal=True, grid=(0, 0))


class FlopVerdict(StrEnum):
    """How a proof ended."""

    CONFIRMED = "confirmed"
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, kw_only=True)
class FlopProof:
    """Proof for one form of one mechanism; all numbers are FLOPs of one call of `shape`.

    Attributes:
        form: ``bidirectional``, ``cross`` (N != M), ``causal``, or ``decode`` of one token.
        formula: FLOPs that the mathematics needs, by the mechanism's formula.
        needed: the count that `formula` was compared with; `method` names its source.
        executed: FLOPs that the implementation executes, by its formula.
        counted: FLOPs of the same call by torch's counter.
        reason: present unless all was confirmed.
    """

    mechanism: str
    form: str
    status: FlopVerdict
    shape: str = ""
    formula: int | None = None
    needed: int | None = None
    method: str | None = None
    executed: int | None = None
    counted: int | None = None
    reason: str | None = None

    @property
    def times_off(self) -> float | None:
        """Ratio of the count to a refuted formula; None if none is refuted."""
        if self.status is not FlopVerdict.FAILED:
            return None
        for formula, found in ((self.formula, self.needed), (self.executed, self.counted)):
            if formula is not None and found and not _agree(formula, found):
                return found / max(formula, 1)
        return None


@dataclass(frozen=True, kw_only=True)
class _Look:
    """Findings at one shape: formulas, counts, and slow forms.

    Attributes:
        formula_by, executed_by: the methods that gave these numbers, as messages name them.
    """

    shape: CallShape
    formula: int
    executed: int
    work: Work
    slow: tuple[SlowForm, ...]
    formula_by: str
    executed_by: str

    @property
    def decisive(self) -> tuple[SlowForm, ...]:
        return tuple(form for form in self.slow if form.is_decisive)

    @property
    def nearest(self) -> SlowForm:
        """The slow form whose count is nearest to the formula.

        If there are decisive ones, forms that need more than all of these are ignored.
        """
        enough = max((form.flops for form in self.decisive), default=None)
        forms = [form for form in self.slow if enough is None or form.flops <= enough]
        return min(forms, key=lambda form: abs(form.flops - self.formula))

    @property
    def is_blind(self) -> bool:
        """Whether the counter may have missed products of the call, see `is_blind`."""
        return is_blind(self.work)

    @property
    def is_counted(self) -> bool:
        """Whether the counter confirms what is executed."""
        return is_counted(self.formula, self.executed, self.work)

    @property
    def is_confirmed(self) -> bool:
        return _agree(self.nearest.flops, self.formula)

    def faults(self) -> list[str]:
        """Faults found at this shape."""
        if self.is_blind and not self.decisive:
            return []
        faults, counted = [], self.work.flops
        if not (self.is_blind or self.is_counted):
            besides = "; give executed_flops() for what the code does besides"
            faults.append(
                f"{self.executed_by} says {self.executed:,}, and {counted:,} are counted"
                + besides * (self.executed_by == "flops()")
            )
        most = max(counted, *(form.flops for form in self.slow))
        if self.decisive and not self.is_confirmed:
            name, flops = self.nearest.name, self.nearest.flops
            faults.append(f"{self.formula_by} says {self.formula:,}, and {name} it takes {flops:,}")
        elif self.formula > (1 + TOLERANCE) * most and not self.is_blind:
            faults.append(
                f"{self.formula_by} says {self.formula:,}, and no more than {most:,} are executed"
            )
        return faults


def is_blind(work: Work) -> bool:
    """Whether a count may have missed products, so that a lower number refutes nothing."""
    return bool(work.opaque) or work.flops == 0


def is_counted(formula: int, executed: int, work: Work) -> bool:
    """Whether the counter confirms the executed FLOPs.

    A fused kernel skips hidden pairs in tiles of its own, and the counter counts all pairs. The
    executed FLOPs are then between the needed and the counted ones.
    """
    slack = 1 + TOLERANCE
    return _agree(executed, work.flops) or (
        work.has_masked_kernel and formula <= slack * executed and executed <= slack * work.flops
    )


def contradiction(formula: int, executed: int, work: Work) -> float | None:
    """Counted FLOPs over those of a formula that they contradict; None if they contradict none.

    >>> work = Work()
    >>> work.flops = 300
    >>> contradiction(100, 300, work), contradiction(100, 100, work), contradiction(600, 300, work)
    (None, 3.0, 0.5)
    """
    if is_blind(work):
        return None
    if not is_counted(formula, executed, work):
        return work.flops / max(executed, 1)
    return work.flops / formula if formula > (1 + TOLERANCE) * work.flops else None


def forms_of(kind: type[Mechanism]) -> list[str]:
    """The forms that a mechanism claims to have."""
    can = kind.capabilities
    forms = {
        "bidirectional": can.bidirectional,
        "cross": can.bidirectional and can.cross,
        "causal": can.causal,
        "decode": can.causal and can.recurrent,
    }
    return [form for form, is_claimed in forms.items() if is_claimed]


def prove_flops(kind: type[Mechanism]) -> Iterator[FlopProof]:
    """One proof for each form that a mechanism claims to have."""
    return (prove_form(kind, form) for form in forms_of(kind))


def prove_form(kind: type[Mechanism], form: str, *, at_a_glance: bool = False) -> FlopProof:
    """Prove the formulas of one form.

    `at_a_glance` takes, for a core, one small shape only, where pairs can be told apart:
    milliseconds.
    """
    missing = [p for p in kind.capabilities.requires if importlib.util.find_spec(p) is None]
    why = f"needs the package {missing[0]}, which is not installed" if missing else None
    if "cpu" not in kind.capabilities.devices:
        why = "does not run on a CPU, where its operators could be watched"
    status = FlopVerdict.UNCONFIRMED
    try:
        if why is None:
            if form == "decode":
                looks = [_step(kind)]
            elif at_a_glance and not issubclass(kind, AttentionLayer):
                looks = [_pairs(kind, form)]
            else:
                looks = list(_looks(kind, form))
            return _verdict(kind.name, form, looks)
    except NotCallable as error:
        why = str(error)
    except Exception as error:  # foreign code: a formula that raises has failed its proof
        status, why = FlopVerdict.FAILED, f"{type(error).__name__}: {error}"
    return FlopProof(mechanism=kind.name, form=form, status=status, reason=why)


def _step(kind: type[Mechanism]) -> _Look:
    """Findings at the last step of a sequence, for which there is one formula only."""
    sample = callable_sample(kind, WIDE_STEP)
    formula, work = sample.mechanism.decode_flops(sample.shape), work_of(last_step(sample))
    slow = SlowForm(name="as executed", flops=work.flops, is_decisive=work.flops > 0)
    return _Look(
        shape=sample.shape,
        formula=formula,
        executed=formula,
        work=work,
        slow=(slow,),
        formula_by="decode_flops()",
        executed_by="decode_flops()",
    )


def _looks(kind: type[Mechanism], form: str) -> Iterator[_Look]:
    """Findings at several shapes, each with the slow forms that apply."""
    can, is_core, causal = kind.capabilities, not issubclass(kind, AttentionLayer), form == "causal"
    look = partial(_look, kind, form)
    yield look(SMALL, without_zeros, batch_size=2)
    yield look(MEDIUM, without_zeros, *([token_by_token] if causal and can.recurrent else []))
    yield look(FAR)
    if causal and not can.recurrent:
        yield look(WIDE)
    if is_core:
        pairs = _pairs(kind, form)
        yield pairs
        is_softmax = any(slow.name == "pair by pair" for slow in pairs.slow)
        if is_softmax and form != "cross":
            yield look(MEDIUM, pair_by_pair)
            if _is_sparse(kind, causal):
                yield look(SPARSE, pair_by_pair)


Way = Callable[[Sample], SlowForm | None]


def _pairs(kind: type[Mechanism], form: str) -> _Look:
    can = kind.capabilities
    by_query = [query_by_query] if form == "causal" and can.cross and can.bidirectional else []
    return _look(kind, form, PAIRS, pair_by_pair, *by_query)


def _is_sparse(kind: type[Mechanism], causal: bool) -> bool:
    """Whether pairs are left out: by the formula, a pair takes less at many tokens than at few."""
    per_pair = []
    for length in (PAIRS.seq_len, SPARSE.seq_len):
        sample = make_sample(kind, replace(SPARSE, causal=causal, seq_len=length, grid=(0, 0)))
        per_pair.append(sample.mechanism.flops(sample.shape) / sample.shape.num_pairs)
    return bool(per_pair[1] < 0.9 * per_pair[0])


def _look(
    kind: type[Mechanism], form: str, geometry: Geometry, *ways: Way, batch_size: int = 1
) -> _Look:
    keys = geometry.seq_len + 8 if form == "cross" else None
    at = replace(geometry, causal=form == "causal", grid=(0, 0))
    sample = callable_sample(kind, at, batch_size, keys)
    mechanism, shape, work = sample.mechanism, sample.shape, work_of(sample.call)
    as_executed = SlowForm(name="as executed", flops=work.flops, is_decisive=False)
    gives_executed = type(mechanism).executed_flops is not Mechanism.executed_flops
    slow = [as_executed, *(form for form in (way(sample) for way in ways) if form is not None)]
    return _Look(
        shape=shape,
        formula=mechanism.flops(shape),
        executed=mechanism.executed_flops(shape),
        work=work,
        slow=tuple(slow),
        formula_by="flops()",
        executed_by="executed_flops()" if gives_executed else "flops()",
    )


def _verdict(name: str, form: str, looks: list[_Look]) -> FlopProof:
    # Without a decisive slow form, a wrong formula may agree with the executed FLOPs by chance.
    telling = [look for look in looks if look.decisive] or looks
    faulty = [look for look in (*telling, *looks) if look.faults()]
    confirmed = [look for look in telling if look.is_confirmed]
    shown = [*faulty, *confirmed, *looks][0]
    faults, doubts = shown.faults(), []
    if not confirmed:
        doubts.append(
            f"no slow form takes the {shown.formula:,} that {shown.formula_by} says; nearest is "
            f"{shown.nearest.flops:,}, {shown.nearest.name}"
        )
    if not all(look.is_counted for look in looks):
        doubts.append(f"no counter saw what {shown.executed_by} says")
    opaque = sorted({name for look in looks for name in look.work.opaque})
    if doubts and opaque:
        doubts.append(f"these may hold products that nobody sees: {', '.join(opaque)}")
    status = FlopVerdict.UNCONFIRMED if doubts else FlopVerdict.CONFIRMED
    return FlopProof(
        mechanism=name,
        form=form,
        status=FlopVerdict.FAILED if faults else status,
        shape=_words(shown.shape, form),
        formula=shown.formula,
        needed=shown.nearest.flops,
        method=shown.nearest.name,
        executed=shown.executed,
        counted=shown.work.flops,
        reason="; ".join(faults or doubts) or None,
    )


def _agree(ours: float, theirs: float) -> bool:
    """Whether two counts are the same within 1 %."""
    return abs(ours - theirs) <= TOLERANCE * max(abs(ours), abs(theirs))


def _words(shape: CallShape, form: str) -> str:
    """A shape in words such as ``B2 H2 N12 D16 E8``."""
    sizes = [f"B{shape.batch_size}", f"H{shape.num_heads}", f"N{shape.query_len}"]
    if form == "cross":
        sizes.append(f"M{shape.key_len}")
    return " ".join([*sizes, f"D{shape.head_dim}", f"E{shape.value_dim}"])
