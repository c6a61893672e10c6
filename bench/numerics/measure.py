"""A mechanism in narrow dtypes beside itself in float64, and on hard inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.conformance.forms import (
    Form,
    build,
    call_shape,
    gradients,
    has_gradients,
    inputs,
    name_of,
)
from bench.costs.dry_run import forward_bytes
from bench.measure.clock import utc_now
from bench.numerics.cases import (
    HARD_LEN,
    HIDDEN,
    LENGTHS,
    MAGNITUDES,
    NORM_LEN,
    NORMS,
    PLAIN,
    Inputs,
    hard_inputs,
    of_norm,
    with_magnitude,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
NUM_HEADS, HEAD_DIM = 1, 32
MAX_FLOPS = 10**11
MAX_BYTES = 2**33
"""Of one call in float64: what needs more is left out, and said to be."""

ZEROS, MEAN, OTHER, NOT_FINITE = "zeros", "the mean of v", "a finite number", "not finite"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was seen of one form.

    Attributes:
        errors: dtype -> ``"<input> at <seq_len>"`` -> largest error over the largest output, both
            over all tokens; None if the output was not finite.
        left_out: lengths that would have taken too much.
        broken: dtype -> hard inputs on which an output or a gradient was not finite.
        finite_to: dtype -> the magnitude of inputs, or of a layer's tokens, up to which output and
            gradients were finite on all of `with_magnitude`; zero if at none.
        stopped_by: dtype -> the first of `with_magnitude` that was not finite at the next one.
        finite_to_elsewhere: as ``finite_to``, where operators are left to themselves: on other
            devices and in compiled graphs.
        gives: hard input -> what came out of the last row in float32.
    """

    mechanism: str
    causal: bool
    source: str
    tested_at: str
    torch: str
    errors: dict[str, dict[str, float | None]] = field(default_factory=dict)
    left_out: list[int] = field(default_factory=list)
    broken: dict[str, dict[str, str]] = field(default_factory=dict)
    finite_to: dict[str, float] = field(default_factory=dict)
    stopped_by: dict[str, str] = field(default_factory=dict)
    finite_to_elsewhere: dict[str, float] = field(default_factory=dict)
    gives: dict[str, str] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """A line per input on which something was not finite."""
        form = f"{self.mechanism}, causal" if self.causal else self.mechanism
        hard = [
            f"{form}, {dtype}, {case}: {wrong} not finite"
            for dtype, cases in self.broken.items()
            for case, wrong in cases.items()
        ]
        sizes = [
            f"{form}, {dtype}, {case}: not finite beyond {self.finite_to[dtype]:g}"
            for dtype, case in self.stopped_by.items()
        ]
        return (
            hard
            + sizes
            + [
                f"{form}, {dtype}, {key}: output not finite"
                for dtype, errors in self.errors.items()
                for key, error in errors.items()
                if error is None
            ]
        )


def findings_of(form: Form, source: str = "") -> Findings:
    """Measure one form.

    Raises:
        Untestable: it cannot be built here.
    """
    found = Findings(
        mechanism=form.name,
        causal=form.causal,
        source=source,
        tested_at=utc_now(),
        torch=torch.__version__,
    )
    for seq_len in LENGTHS:
        mechanism = _build(form, seq_len)
        if _costs_too_much(mechanism, seq_len):
            found.left_out.append(seq_len)
            continue
        for dtype, key, error in _errors(mechanism, seq_len):
            found.errors.setdefault(dtype, {})[key] = error
    for dtype, reached, case in _finite_to(_build(form, HARD_LEN)):
        found.finite_to[dtype] = reached
        if case:
            found.stopped_by[dtype] = case
    for dtype, reached, _ in _finite_to(_build(form, HARD_LEN), _elsewhere):
        found.finite_to_elsewhere[dtype] = reached
    for dtype, case, wrong, gives in _hard(_build(form, HARD_LEN)):
        found.broken.setdefault(dtype, {})
        if wrong:
            found.broken[dtype][case] = wrong
        if dtype == "float32":
            found.gives[case] = gives
    return found


def key_of(case: str, seq_len: int) -> str:
    """How an error is found in `Findings.errors`."""
    return f"{case} at {seq_len}"


def _build(form: Form, seq_len: int) -> Any:
    torch.manual_seed(0)
    return build(form, num_heads=NUM_HEADS, seq_len=seq_len, head_dim=HEAD_DIM, value_dim=HEAD_DIM)


def _costs_too_much(mechanism: Any, seq_len: int) -> bool:
    tensors = inputs(mechanism, batch_size=1)
    if mechanism.executed_flops(call_shape(mechanism, tensors)) > MAX_FLOPS:
        return True
    return 2 * (forward_bytes(mechanism, tensors) or 0) > MAX_BYTES  # in float64


def _claimed(mechanism: Any) -> list[torch.dtype]:
    return [dtype for dtype in DTYPES if name_of(dtype) in mechanism.capabilities.dtypes]


def _errors(mechanism: Any, seq_len: int) -> Iterator[tuple[str, str, float | None]]:
    plain = inputs(mechanism, batch_size=1)
    cases = {PLAIN: plain}
    if seq_len == NORM_LEN:
        cases |= {f"norm {norm:g}": of_norm(plain, norm) for norm in NORMS}
    for dtype in _claimed(mechanism):
        narrow = copy.deepcopy(mechanism).to(dtype)
        wide = copy.deepcopy(narrow).double()  # the rounded weights: only the arithmetic differs
        for case, tensors in cases.items():
            given = [x.to(dtype) for x in tensors]
            with torch.no_grad():
                out, expected = narrow(*given), wide(*(x.double() for x in given))
            yield name_of(dtype), key_of(case, seq_len), _error(out, expected)


def _error(out: Tensor, expected: Tensor) -> float | None:
    if not bool(out.isfinite().all()):
        return None
    largest = float(expected.abs().max())
    error = float((out.double() - expected).abs().max())
    return float(f"{error / largest if largest else error:.2e}")


def _hard(mechanism: Any) -> Iterator[tuple[str, str, str, str]]:
    """(dtype, case, what is not finite, what comes out of the last row)."""
    plain = inputs(mechanism, batch_size=1)
    for dtype in _claimed(mechanism):
        narrow = copy.deepcopy(mechanism).to(dtype)
        cases: dict[str, tuple[Inputs, dict[str, Tensor]]] = {
            case: (tensors, {}) for case, tensors in hard_inputs(plain, dtype).items()
        }
        if "padding" in mechanism.capabilities.masks:
            nothing = torch.zeros(1, HARD_LEN, dtype=torch.bool)
            cases[HIDDEN] = (plain, {"key_mask": nothing})
        for case, (tensors, masks) in cases.items():
            given = tuple(x.to(dtype) for x in tensors)
            wrong, out = not_finite(narrow, given, masks)
            yield name_of(dtype), case, wrong, _in_words(out, given[-1])


class _Elsewhere(Tensor):
    """Any type of its own keeps what is for processors alone away, see `is_ordinary`.

    As on another device and in a compiled graph, there is then no engine and no second time in
    float64.
    """


def _elsewhere(x: Tensor) -> Tensor:
    return x.as_subclass(_Elsewhere)


def _here(x: Tensor) -> Tensor:
    return x


def _finite_to(
    mechanism: Any, where: Callable[[Tensor], Tensor] = _here
) -> Iterator[tuple[str, float, str]]:
    """(dtype, the last magnitude before one that breaks, the case that breaks first or nothing)."""
    plain = inputs(mechanism, batch_size=1)
    for dtype in _claimed(mechanism):
        narrow, reached, stopped_by = copy.deepcopy(mechanism).to(dtype), 0.0, ""
        for magnitude in MAGNITUDES:
            if magnitude > torch.finfo(dtype).max:
                break
            cases = {
                case: tuple(where(x.to(dtype)) for x in tensors)
                for case, tensors in with_magnitude(plain, magnitude).items()
            }
            stopped_by = _first_that_breaks(narrow, cases)
            if stopped_by:
                break
            reached = magnitude
        yield name_of(dtype), reached, stopped_by


def _first_that_breaks(mechanism: Any, cases: Mapping[str, Inputs]) -> str:
    """A case on which something is not finite; empty if there is none."""
    return next((case for case, given in cases.items() if not_finite(mechanism, given, {})[0]), "")


def not_finite(mechanism: Any, given: Inputs, masks: dict[str, Tensor]) -> tuple[str, Tensor]:
    """What of an output and its gradients is not finite, empty if all is; and the output.

    What float64 knows to be larger than the dtype's largest number does not count.
    """
    found = _results(mechanism, given, masks)
    wrong = {what for what, x in found if not bool(x.isfinite().all())}
    if wrong:
        wide = _results(copy.deepcopy(mechanism).double(), tuple(x.double() for x in given), masks)
        largest = torch.finfo(given[0].dtype).max
        wrong = {
            what
            for (what, x), (_, real) in zip(found, wide, strict=True)
            if bool((~x.isfinite() & ~(real.isfinite() & (real.abs() > largest))).any())
        }
    return " and ".join(sorted(wrong, reverse=True)), found[0][1]


def _results(mechanism: Any, given: Inputs, masks: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    """The output, with and without gradients, then these, of inputs and learned values."""
    trains = has_gradients(mechanism)
    with torch.no_grad():
        alone = mechanism(*given, **masks)
    tensors = [x.clone().requires_grad_(trains) for x in given]
    out = mechanism(*tensors, **masks)
    learned = [p for p in mechanism.parameters() if p.requires_grad]
    found = gradients(out, [*tensors, *learned]) if trains and out.requires_grad else []
    outputs = [("output", out.detach()), ("output", alone)]
    return [*outputs, *(("gradient", g) for g in found)]


def _in_words(out: Tensor, v: Tensor) -> str:
    last = out[..., -1, :].double()
    if not bool(last.isfinite().all()):
        return NOT_FINITE
    if not bool(last.abs().max() > 1e-6):
        return ZEROS
    mean = v.double().mean(dim=-2)
    is_mean = last.shape == mean.shape and torch.allclose(last, mean, rtol=1e-3, atol=1e-4)
    return MEAN if is_mean else OTHER
