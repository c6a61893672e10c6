"""Is it right? The check that a member must pass before it is timed.

The oracle is the mechanism's own slow form (`Attention.reference`) in float64, or softmax written
out if it claims to be exact, or its own forward in float64 where it offers neither. A tolerance
can be passed by an output that is nothing, so zeros, a single value and NaN fail whatever it is.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bench.cell import Cell
from bench.subject import Subject

MAX_ORACLE_LEN = 1024
"""The check runs at min(N, this): the slow forms are quadratic, and in float64."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest error allowed, relative to the oracle: by its largest value, and by its norm."""

    max_error: float
    rms_error: float


TOLERANCES = {
    "float64": Tolerance(max_error=1e-8, rms_error=1e-9),
    "float32": Tolerance(max_error=5e-4, rms_error=1e-4),
    # Rounding a result to bfloat16 alone costs 2^-9 at most and about 1.7e-3 in norm; weights
    # that are rounded as well cost about 3e-3. One per cent of noise must not pass.
    "bfloat16": Tolerance(max_error=4e-2, rms_error=8e-3),
    "float16": Tolerance(max_error=5e-3, rms_error=2e-3),
}
GRADIENT_FACTOR = 5.0
"""A gradient passes through about twice as many roundings, and differences cancel in it."""


class Incorrect(Exception):
    """The output is wrong; the message says how."""


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Distance of the output from the oracle, as in `Tolerance`."""

    max_error: float
    rms_error: float


def check(cell: Cell, library: ModuleType | None = None) -> Errors:
    """Compare a cell's mechanism with its oracle, outputs and, if it has them, gradients.

    Raises:
        Incorrect: not finite, nothing, or beyond the tolerance of the dtype.
    """
    w = cell.kernel
    subject = Subject(cell, seq_len=min(w.seq_len, MAX_ORACLE_LEN), library=library)
    tolerance = TOLERANCES[w.dtype]
    tensors = subject.sets[0]
    with torch.set_grad_enabled(w.has_backward):
        out = subject.forward(tensors)
        like = tensors[-1][..., -1:, :] if w.mode == "decode" else tensors[-1]
        refuse_nothing(out.detach(), like)
        wide = [t.detach().cpu().double().requires_grad_(t.requires_grad) for t in tensors]
        expected = expected_of(copy.deepcopy(subject.module).cpu().double(), wide[:-1])
        if w.mode == "decode":
            expected = expected[..., -1:, :]
    errors = distance(out.detach(), expected.detach())
    refuse_beyond(errors, tolerance, 1.0, "output")
    if w.has_backward:
        gradients = subject.gradients(out, tensors)[: len(tensors) - 1]
        ideal = torch.autograd.grad(expected, wide[:-1], wide[-1], allow_unused=True)
        for index, (ours, oracle) in enumerate(zip(gradients, ideal, strict=True)):
            _check_gradient(ours, oracle, tolerance, f"gradient of input {index}")
    return errors


def expected_of(module: nn.Module, tensors: list[Tensor]) -> Tensor:
    """What a mechanism should give for float64 inputs, by the slowest form that there is."""
    slow: Any = module
    if len(tensors) == 3 and slow.capabilities.exact:
        q, k, v = tensors
        return _softmax_written_out(q, k, v, causal=slow.geometry.causal)
    expected = slow.reference(*tensors)
    result: Tensor = module(*tensors) if expected is None else expected
    return result


def _softmax_written_out(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if causal:
        hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, -torch.inf)
    out: Tensor = scores.softmax(dim=-1) @ v
    return out


def refuse_nothing(out: Tensor, like: Tensor) -> None:
    """Refuse an output of another shape or dtype, or one that says nothing.

    Raises:
        Incorrect: it is that.
    """
    if out.shape != like.shape:
        raise Incorrect(f"output has shape {tuple(out.shape)}, expected {tuple(like.shape)}")
    if out.dtype != like.dtype:
        raise Incorrect(f"output has dtype {out.dtype}, expected {like.dtype}")
    bad = int((~out.isfinite()).sum())
    if bad:
        raise Incorrect(f"output holds {bad} of {out.numel()} values that are NaN or infinite")
    if not out.any():
        raise Incorrect("output is zero everywhere")
    if out.numel() > 1 and bool((out == out.flatten()[0]).all()):
        raise Incorrect(f"output is the same value everywhere, {float(out.flatten()[0]):.4g}")


def _check_gradient(
    ours: Tensor | None, oracle: Tensor | None, tolerance: Tolerance, what: str
) -> None:
    if oracle is None or not oracle.any():
        # Nothing flows there: `none` and `uniform` do not look at queries and keys.
        if ours is not None and bool(ours.abs().max() > tolerance.max_error):
            raise Incorrect(f"{what} should be zero and reaches {float(ours.abs().max()):.3g}")
        return
    if ours is None:
        raise Incorrect(f"{what} is missing")
    if not bool(ours.isfinite().all()):
        raise Incorrect(f"{what} holds values that are NaN or infinite")
    refuse_beyond(distance(ours, oracle), tolerance, GRADIENT_FACTOR, what)


def distance(ours: Tensor, oracle: Tensor) -> Errors:
    """How far a tensor is from its oracle."""
    difference = ours.cpu().double() - oracle
    return Errors(
        max_error=float(difference.abs().max() / oracle.abs().max()),
        rms_error=float(difference.norm() / oracle.norm()),
    )


def refuse_beyond(errors: Errors, tolerance: Tolerance, factor: float, what: str) -> None:
    """Refuse errors beyond `factor` times the tolerance.

    Raises:
        Incorrect: naming `what` was off, and by how much.
    """
    for name in ("max_error", "rms_error"):
        error, bound = getattr(errors, name), factor * getattr(tolerance, name)
        if not error <= bound:
            raise Incorrect(
                f"{what} differs from the oracle: {name} {error:.2g}, allowed {bound:.2g}"
            )
