"""A mechanism in narrow dtypes against itself in float64, on hard inputs and on growing norms."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attentions.testing.forms import Form, build, gradients, has_gradients, inputs, name_of
from attentions.testing.hard_inputs import Inputs, hard_inputs, of_norm
from bench.core.clock import utc_now

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PLAIN, LARGE = "unit normal", "norm 50"
"""Kinds of inputs on which errors are measured."""
HIDDEN = "all keys hidden"
"""A kind of its own: unit-normal inputs under a key mask that hides every key."""
NUM_HEADS, HEAD_DIM = 1, 32
SEQ_LEN = 1024
"""Tokens on which errors are measured."""
HARD_LEN = 64
"""An 8 x 8 grid. What is hard about hard inputs does not depend on the length."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Findings about one form.

    Attributes:
        is_published: whether it is the authors' operators.
        errors: dtype -> input -> largest error over the largest output, both over all tokens; None
            if the output was not finite.
        broken: dtype -> hard inputs on which an output or a gradient was not finite.
        ends: dtype -> the largest norm of 1, 2, 4, … up to which outputs and gradients are finite;
            zero if they are not at 1, None if they are over the whole range of the dtype.
    """

    mechanism: str
    causal: bool
    is_published: bool
    tested_at: str
    torch: str
    errors: dict[str, dict[str, float | None]] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=dict)
    ends: dict[str, float | None] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """A line per input on which something of ours was not finite."""
        if self.is_published:
            return []
        form = f"{self.mechanism}, causal" if self.causal else self.mechanism
        lost = {
            dtype: [case for case, error in errors.items() if error is None]
            for dtype, errors in self.errors.items()
        }
        cases = [(dtype, case) for found in (lost, self.broken) for dtype in found
                 for case in found[dtype]]  # fmt: skip
        return [f"{form}, {dtype}, {case}: not finite" for dtype, case in dict.fromkeys(cases)]


def findings_of(form: Form) -> Findings:
    """Measure one form.

    Raises:
        Untestable: it cannot be built here.
    """
    found = Findings(
        mechanism=form.name,
        causal=form.causal,
        is_published=form.is_published,
        tested_at=utc_now(),
        torch=torch.__version__,
    )
    long, short = _build(form, SEQ_LEN), _build(form, HARD_LEN)
    for dtype in _dtypes(form):
        found.errors[name_of(dtype)] = dict(_errors(form, long, dtype))
        found.broken[name_of(dtype)] = list(_broken(form, short, dtype))
        found.ends[name_of(dtype)] = _end(form, short, dtype)
    return found


def _build(form: Form, seq_len: int) -> Any:
    torch.manual_seed(0)
    return build(form, num_heads=NUM_HEADS, seq_len=seq_len, head_dim=HEAD_DIM, value_dim=HEAD_DIM)


def _dtypes(form: Form) -> list[torch.dtype]:
    """Claimed dtypes; all for a published core, as a model in half precision runs it in them."""
    takes_all = form.is_published and form.is_core
    return [d for d in DTYPES if takes_all or name_of(d) in form.can.dtypes]


def _call_of(form: Form, mechanism: Any) -> Callable[..., Tensor]:
    """Function to call; for published code the bare `forward`, which does not check dtypes."""
    call: Callable[..., Tensor] = mechanism.forward if form.is_published else mechanism
    return call


def _errors(form: Form, mechanism: Any, dtype: torch.dtype) -> Iterator[tuple[str, float | None]]:
    plain = inputs(mechanism, batch_size=1)
    for case, tensors in ((PLAIN, plain), (LARGE, of_norm(plain, 50.0))):
        yield case, error_in(dtype, mechanism, tensors, partial(_call_of, form))


@torch.no_grad()
def error_in(
    dtype: torch.dtype,
    mechanism: Any,
    tensors: Inputs,
    call_of: Callable[[Any], Callable[..., Tensor]] = lambda mechanism: mechanism,
) -> float | None:
    """The largest error over the largest output, both over all tokens; None if not finite.

    Against float64 with inputs and weights as the dtype rounds them: only the arithmetic differs.

    Args:
        dtype: to run in.
        mechanism: of any dtype; it is copied.
        tensors: its inputs, of any dtype.
        call_of: gives the function to call in the narrow dtype.
    """
    narrow = copy.deepcopy(mechanism).to(dtype)
    wide = copy.deepcopy(narrow).double()
    given = [x.to(dtype) for x in tensors]
    return _error(call_of(narrow)(*given), wide(*(x.double() for x in given)))


def _error(out: Tensor, expected: Tensor) -> float | None:
    if not bool(out.isfinite().all()):
        return None
    largest = float(expected.abs().max())
    error = float((out.double() - expected).abs().max())
    return float(f"{error / largest if largest else error:.2e}")


def _broken(form: Form, mechanism: Any, dtype: torch.dtype) -> Iterator[str]:
    plain = inputs(mechanism, batch_size=1)
    call, learned = _narrow(form, mechanism, dtype)
    for case, tensors in hard_inputs(plain, dtype).items():
        if not is_finite(call, _to(tensors, dtype), learned):
            yield case
    if "padding" in mechanism.capabilities.masks:
        nothing = torch.zeros(1, HARD_LEN, dtype=torch.bool)
        if not is_finite(call, _to(plain, dtype), learned, key_mask=nothing):
            yield HIDDEN


def _end(form: Form, mechanism: Any, dtype: torch.dtype) -> float | None:
    plain = inputs(mechanism, batch_size=1)
    call, learned = _narrow(form, mechanism, dtype)
    reached, norm = 0.0, 1.0
    while True:
        given = _to(of_norm(plain, norm), dtype)
        if not all(bool(x.isfinite().all()) for x in given):
            return None
        if not is_finite(call, given, learned):
            return reached
        reached, norm = norm, 2 * norm


def _narrow(
    form: Form, mechanism: Any, dtype: torch.dtype
) -> tuple[Callable[..., Tensor], list[Tensor] | None]:
    """A call in a dtype, and the weights that gradients are taken of; None if there are none."""
    narrow = copy.deepcopy(mechanism).to(dtype)
    learned = [p for p in narrow.parameters() if p.requires_grad]
    return _call_of(form, narrow), learned if has_gradients(mechanism) else None


def _to(tensors: Inputs, dtype: torch.dtype) -> Inputs:
    return tuple(x.double().to(dtype) for x in tensors)


def is_finite(
    call: Callable[..., Tensor], given: Inputs, learned: list[Tensor] | None, **masks: Tensor
) -> bool:
    """Whether outputs, with and without autograd, and gradients of inputs and weights are finite.

    Args:
        call: the mechanism.
        given: its inputs.
        learned: weights that gradients are taken of; without any gradients if None.
        masks: passed to the call.
    """
    with torch.no_grad():
        results = [call(*given, **masks)]
    if learned is not None:
        tensors = [x.clone().requires_grad_() for x in given]
        out = call(*tensors, **masks)
        results.append(out.detach())
        if out.requires_grad:
            results += gradients(out, [*tensors, *learned])
    return all(bool(x.isfinite().all()) for x in results)
