"""A mechanism's FLOP formulas against what counters see and what slow forms of it take.

Three numbers that were found independently: the formula, as the mechanism's author wrote it; what
torch's counter makes of the operators that run; and the multiply-adds of a slow form, counted by
brute force. `flops`, what the mathematics needs, must be the work of a slow form that gives the
same output. `executed_flops` must be what is seen to be executed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from attentions import CallShape
from attentions.base import Mechanism
from bench.costs.findings import TOLERANCE, Findings, LongFindings, is_counted, look, look_at_long
from bench.costs.sample import NotCallable


class FlopVerdict(StrEnum):
    """How a proof ended."""

    CONFIRMED = "confirmed"
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, kw_only=True)
class FlopProof:
    """One form of one mechanism. Numbers are FLOPs of one call of the shape that is named.

    Attributes:
        form: ``bidirectional``, ``cross`` (N != M), ``causal``, or ``decode`` of one token.
        formula: what the mathematics needs, by the mechanism's formula.
        brute_force: what a slow form takes; of several the one that comes nearest.
        method: which slow form.
        executed: what the implementation executes, by its formula.
        counted: what torch's counter saw of the same call.
        long_len: tokens of a long call; None where none can be followed.
        long_device: ``meta``, or ``cpu`` where a mechanism goes another way on meta tensors.
        long_executed, long_counted: as `executed` and `counted`, of that call.
        reason: always present unless all was confirmed.
    """

    mechanism: str
    form: str
    status: FlopVerdict
    shape: str = ""
    formula: int | None = None
    brute_force: int | None = None
    method: str | None = None
    executed: int | None = None
    counted: int | None = None
    long_len: int | None = None
    long_device: str | None = None
    long_executed: int | None = None
    long_counted: int | None = None
    reason: str | None = None


def prove_flops(kind: type[Mechanism]) -> Iterator[FlopProof]:
    """One proof for each form that a mechanism claims to have."""
    can = kind.capabilities
    missing = [name for name in can.requires if importlib.util.find_spec(name) is None]
    why = f"needs the package {missing[0]}, which is not installed" if missing else None
    if "cpu" not in can.devices:
        why = "does not run on a CPU, where its operators could be watched"
    forms = {
        "bidirectional": can.bidirectional,
        "cross": can.bidirectional and can.cross,
        "causal": can.causal,
        "decode": can.causal and can.recurrent,
    }
    for form in (form for form, is_claimed in forms.items() if is_claimed):
        if why is not None:
            yield _unconfirmed(kind, form, why)
            continue
        try:
            yield _prove_form(kind, form)
        except NotCallable as error:
            yield _unconfirmed(kind, form, str(error))
        except Exception as error:  # foreign code: a formula that raises has failed its proof
            reason = f"{type(error).__name__}: {error}"
            yield FlopProof(
                mechanism=kind.name, form=form, status=FlopVerdict.FAILED, reason=reason
            )


def _unconfirmed(kind: type[Mechanism], form: str, reason: str) -> FlopProof:
    return FlopProof(mechanism=kind.name, form=form, status=FlopVerdict.UNCONFIRMED, reason=reason)


def _prove_form(kind: type[Mechanism], form: str) -> FlopProof:
    found = list(look(kind, form))
    long = None if form in ("cross", "decode") else look_at_long(kind, causal=form == "causal")
    faulty = [f for f in found if _faults(f)]
    confirmed = [f for f in _telling(found) if f.is_confirmed]
    shown = [*faulty, *reversed(confirmed), *found][0]
    faults = [*_faults(shown), *_long_faults(found, long)]
    doubts = _doubts(found)
    status = FlopVerdict.UNCONFIRMED if doubts else FlopVerdict.CONFIRMED
    return FlopProof(
        mechanism=kind.name,
        form=form,
        status=FlopVerdict.FAILED if faults else status,
        shape=_words(shown.shape, form),
        formula=shown.formula,
        brute_force=shown.nearest.flops,
        method=shown.nearest.name,
        executed=shown.executed,
        counted=shown.counted,
        long_len=long.length if long else None,
        long_device=long.device if long else None,
        long_executed=long.executed if long else None,
        long_counted=long.counted if long else None,
        reason="; ".join(faults or doubts) or None,
    )


def _telling(found: Sequence[Findings]) -> Sequence[Findings]:
    """The findings that can confirm a formula: those with a decisive slow form, if there are any.

    Without one, what an implementation executes may agree with a wrong formula by chance.
    """
    return [f for f in found if f.decisive] or found


def _faults(found: Findings) -> list[str]:
    """What is wrong at one shape."""
    if found.is_blind:
        return []
    faults = []
    if not found.is_executed:
        faults.append(
            f"executed_flops() says {found.executed:,}, and {found.counted:,} are counted"
        )
    most = max(found.counted, *(form.flops for form in found.slow))
    if not found.is_confirmed and found.decisive:
        name, flops = found.nearest.name, found.nearest.flops
        faults.append(f"flops() says {found.formula:,}, and {name} it takes {flops:,}")
    elif found.formula > (1 + TOLERANCE) * most:
        faults.append(f"flops() says {found.formula:,}, and no more than {most:,} are executed")
    return faults


def _long_faults(found: Sequence[Findings], long: LongFindings | None) -> list[str]:
    """What is wrong at a length at which only the counter looked, if it saw all at small ones."""
    if long is None or not all(f.is_counted for f in found):
        return []
    has_mask = any(f.seen.has_masked_kernel for f in found)
    if is_counted(long.formula, long.executed, long.counted, has_mask=has_mask):
        return []
    return [
        f"at {long.length:,} tokens executed_flops() says {long.executed:,}, and {long.counted:,} "
        "are counted"
    ]


def _doubts(found: Sequence[Findings]) -> list[str]:
    """Why nothing confirms a formula, though nothing refutes it either."""
    doubts = []
    if not any(f.is_confirmed for f in _telling(found)):
        first = found[0]
        doubts.append(
            f"no slow form takes the {first.formula:,} that flops() says; nearest is "
            f"{first.nearest.flops:,}, {first.nearest.name}"
        )
    if not all(f.is_executed for f in found):
        doubts.append("no counter saw what executed_flops() says")
    opaque = sorted({name for f in found for name in f.seen.opaque})
    if doubts and opaque:
        doubts.append(f"these may hold products that nobody sees: {', '.join(opaque)}")
    return doubts


def _words(shape: CallShape, form: str) -> str:
    """As ``B2 H2 N12 D16 E8``."""
    sizes = [f"B{shape.batch_size}", f"H{shape.num_heads}", f"N{shape.query_len}"]
    if form == "cross":
        sizes.append(f"M{shape.key_len}")
    return " ".join([*sizes, f"D{shape.head_dim}", f"E{shape.value_dim}"])
