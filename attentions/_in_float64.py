"""Finite inputs whose way to a finite output leads out of float32: once more, in float64.

The score of two vectors of 1e20 is no number of float32, a feature that is a product of two ends at
1e19, and a query, a key and a value of 1e13 are 1e39 together before anything divides them. All of
these are numbers of float64, which ends at 1e308. So where an output or a gradient is not finite,
it is computed once more.

The engine sees to what it writes, and has its plain form at hand. For all else the mechanism itself
is called again. To know costs a sum of the output, unless the processor has noted nothing
(`_overflow`). Gradients come when the call is over, so where they are wanted the inputs tell: with
an entry that is large, all is done in float64. What came out right stays as it was, to the bit: a
large token must not change how the rows of a causal form before it are rounded. What is no number
of the inputs' dtype at all ends at the largest one.

Only on processors: on other devices a look at numbers would wait for all work that is under way.
Published operators and other packages are left as they are.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._engine_threads import NUM_FEW, alone_if_few
from ._ordinary import is_ordinary
from ._overflow import has_notes, is_noted
from .precision import HALF, is_autocast, without_autocast

if TYPE_CHECKING:
    from .base import Mechanism

LARGE = 2.0**20
"""Nothing smaller was found to break a gradient."""
_SMALL = 2.0**14
"""Of such numbers no product of six, and no sum of a million of them, leaves float32."""
_NEAR = 2.0**-4
"""Of a row's largest number: rounding is less, and what is wrong is off by more."""
_ROOM = 2.0**-8
"""For derivatives of at most 16, twice."""
_INPUTS = ("q", "k", "v", "x")

Task = Callable[..., Tensor]

_looked = threading.local()


def made_finite(
    mechanism: Mechanism, out: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]
) -> Any:
    """What a call gave, with what is not finite taken from float64.

    Args:
        mechanism: whose call it was.
        out: the output.
        inputs: queries, keys and values, or tokens; some may be among the keywords.
        keywords: masks and gates as well.
    """
    if not is_ordinary(out) or out.dtype == torch.float64:
        return out
    given = [*inputs, *(keywords[name] for name in _INPUTS if name in keywords)]
    tensors = [x for x in given if isinstance(x, Tensor) and x.is_floating_point()]
    is_small = is_large = False
    if out.requires_grad and torch.is_grad_enabled():
        bound = max(map(bound_of_entries, tensors), default=LARGE)
        is_small, is_large = bound <= _SMALL and out.dtype != torch.float16, bound > LARGE
    # With notes nothing is saved by what the inputs tell.
    is_sound = is_known_sound(out) or (is_small and not has_notes()) or is_finite(out)
    is_right = is_sound and not is_large
    if is_right or not are_finite(tensors):
        return out
    return mended(out, in_float64(operator.call, mechanism, inputs, keywords))


def is_known_sound(out: Tensor) -> bool:
    """Whether the processor would have noted what is not finite, and has noted nothing.

    Outside of the engine all exponentials are of differences to the largest, or of logarithms of
    decays.
    """
    may_know = out.dtype == torch.float32 and not is_autocast("cpu") and has_notes()
    return may_know and not is_noted()


def look_at_no_more(out: Tensor) -> None:
    """Say of what a call is about to return that it, and its gradients, are seen to."""
    _looked.at = weakref.ref(out)


def look_at_no_more_if_sound(out: Tensor) -> None:
    """The same of what a thread has computed alone and without gradients, if its notes tell."""
    if is_known_sound(out):
        look_at_no_more(out)


def was_looked_at(out: Any) -> bool:
    """Whether that was said of this tensor."""
    last = getattr(_looked, "at", None)
    return last is not None and last() is out


def is_finite(x: Tensor) -> bool:
    """Whether all entries are finite, by their sum: it takes one pass, and errs towards no."""
    x = x.detach()
    with alone_if_few(x, few=NUM_FEW):
        total = x.sum(dtype=torch.float32) if x.dtype in HALF else x.sum()
        return math.isfinite(float(total))


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all entries of all are finite, without an error."""
    return all(bool(x.isfinite().all()) for x in tensors)


def corrected(out: Tensor, exact: Tensor) -> Tensor:
    """Rows of ``out`` where they are near those of float64, which are taken elsewhere."""
    found, largest = out.detach(), torch.finfo(out.dtype).max
    right = exact.detach().clamp(-largest, largest)
    error = (found - right).abs().amax(dim=-1, keepdim=True)
    is_near = error <= _NEAR * right.abs().amax(dim=-1, keepdim=True)
    return torch.where(is_near, found, right.to(out.dtype))


def mended(out: Tensor, right: Tensor) -> Tensor:
    """The same, with the gradients of what came of float64."""
    return _Valued.apply(right, corrected(out, right))  # type: ignore[no-any-return, no-untyped-call]


def in_range(right: Tensor, dtype: torch.dtype) -> Tensor:
    """The same in a dtype, at whose largest number it ends; gradients do not."""
    largest = torch.finfo(dtype).max
    values = right.detach().clamp(-largest, largest).to(dtype)
    return _Valued.apply(right, values)  # type: ignore[no-any-return, no-untyped-call]


def once_more(task: Task, tensors: Sequence[Tensor], out: Tensor) -> Tensor:
    """The output of a task, corrected by what it gives in float64."""
    if out.dtype == torch.float64 or not are_finite(tensors):
        return out
    with torch.no_grad():
        return corrected(out, task(*(x.double() for x in tensors)))


def gradients_once_more(
    task: Task, tensors: Sequence[Tensor], wanted: Sequence[bool], grad_out: Tensor
) -> list[Tensor | None] | None:
    """Those that are wanted, by autograd in float64; None if it could give no better ones.

    The first three tensors are queries, keys and values, and the rest functions of what is learned,
    through which gradients go on in float32: theirs end a little earlier.
    """
    if grad_out.dtype == torch.float64 or not are_finite((*tensors, grad_out)):
        return None
    narrow = [x.detach().requires_grad_(needed) for x, needed in zip(tensors, wanted, strict=True)]
    with torch.enable_grad():
        weights = (wide(x, _ROOM) for x in narrow[3:])
        out = task(*(wide(x) for x in narrow[:3]), *weights)
    chosen = [x for x in narrow if x.requires_grad]
    found = iter(torch.autograd.grad(out, chosen, grad_out.double(), materialize_grads=True))
    return [next(found) if needed else None for needed in wanted]


def bound_of_entries(x: Tensor) -> float:
    """No entry is larger; the largest itself, if the bound is `LARGE` or above."""
    x = x.detach()
    with alone_if_few(x, few=NUM_FEW):
        # The norm takes less time than both ends of the range, where memory is read from its one
        # end to the other.
        if x.is_contiguous() or x.transpose(1, 2).is_contiguous():
            norm = float(torch.linalg.vector_norm(x))
            if norm <= LARGE:
                return norm
        return max(float(x.amax()), -float(x.amin()))


def in_float64(
    task: Callable[..., Any],
    mechanism: Mechanism,
    inputs: Sequence[Any],
    keywords: Mapping[str, Any],
) -> Any:
    """A task of a mechanism whose weights are in float64 for this call; differentiable as ever."""
    learned = itertools.chain(mechanism.named_parameters(), mechanism.named_buffers())
    weights = {f"mechanism.{name}": wide(x) for name, x in learned}
    given = {name: wide(x) for name, x in keywords.items()}
    with without_autocast("cpu"):
        return torch.func.functional_call(
            _Tasked(mechanism, task), weights, wide(tuple(inputs)), given
        )


class _Tasked(torch.nn.Module):
    """A task of a mechanism as a call, for torch exchanges weights for calls only."""

    def __init__(self, mechanism: Mechanism, task: Callable[..., Any]) -> None:
        super().__init__()
        self.mechanism = mechanism
        self._task = task

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return self._task(self.mechanism, *inputs, **keywords)


def wide(x: Any, share: float = 1.0) -> Any:
    """In float64, with a gradient that ends at a share of the largest number of its dtype."""
    if isinstance(x, tuple):
        parts = [wide(part, share) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    if not isinstance(x, Tensor) or not (x.is_floating_point() or x.is_complex()):
        return x
    if x.is_complex():
        return x.to(torch.complex128)
    if x.dtype == torch.float64:
        return x
    doubled, largest = x.double(), share * torch.finfo(x.dtype).max
    if doubled.requires_grad:
        doubled.register_hook(lambda gradient: gradient.clamp(-largest, largest))
    return doubled


class _Valued(torch.autograd.Function):
    """Other values for a tensor, whose gradient stays that of the tensor."""

    @staticmethod
    def forward(ctx: Any, computed: Tensor, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
