"""Correct outputs: the slow form of a mechanism, and the tolerance of an output.

The oracle is the mechanism's own slow form (`Attention.reference`) in float64, or softmax written
out if it claims to be exact, or its own forward in float64 if it has neither. Whatever the
tolerance, outputs of zeros, of a single value or with NaN fail.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SOFTMAX, REFERENCE, ITSELF = "softmax", "reference", "itself"
"""Names of oracles; the last is for a mechanism without a slow form."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest errors allowed: of one value, relative to the oracle's largest, and by norms."""

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
MAX_EMPTY = 0.1
"""Share of rows that may be zero: one row in 16 is, with rectified features of four channels."""
GRADIENT_FACTOR = 5.0
"""Factor on tolerances for gradients: about twice as many roundings, and cancellation."""


_NUM_TRIED = 32
"""Number of tokens on which a slow form is tested for dependence on positions."""


class Incorrect(Exception):
    """The output is wrong; the message says how."""


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Distance of the output from the oracle, as in `Tolerance`."""

    max_error: float
    rms_error: float


Gates = Mapping[str, Tensor]


def slow_form(
    module: nn.Module,
    tensors: Sequence[Tensor],
    rows: Sequence[int] | None = None,
    gates: Gates | None = None,
) -> tuple[str, Tensor]:
    """Expected output of a mechanism for float64 inputs, by the slowest form available.

    Args:
        module: a copy of the mechanism, core or layer, in float64; it may be changed.
        tensors: its inputs.
        rows: query rows of the output; all unless given.
        gates: gates of a core, by name. With gates the oracle is never softmax, even for a core
            that claims to be exact.

    Returns:
        ``softmax``, ``reference``, or ``itself`` for a mechanism with neither; and the output.
    """
    slow: Any = module
    if _surrounds_a_core(slow):
        return _around(slow, tensors, rows)
    at, given = slice(None) if rows is None else list(rows), gates or {}
    if len(tensors) == 3 and slow.capabilities.exact and not given:
        q, k, v = tensors
        places = torch.arange(q.shape[-2])[at]
        return SOFTMAX, _softmax_written_out(
            q[..., at, :], k, v, places if slow.geometry.causal else None
        )
    if rows is not None and not given and can_ask_by_rows(slow):
        q, k, v = tensors
        return REFERENCE, slow.reference(q[..., at, :], k, v)
    # The inherited `reference` returns None, and takes no gates.
    expected = slow.reference(*tensors, **given) if _has_reference(slow) else None
    name, out = (ITSELF, slow(*tensors, **given)) if expected is None else (REFERENCE, expected)
    return name, out[..., at, :]


def _has_reference(core: Any) -> bool:
    """Whether a mechanism has a slow form of its own."""
    return type(core).reference is not _base_of(core).reference


def slow_form_without_padding(
    core: nn.Module,
    tensors: Sequence[Tensor],
    lengths: Sequence[tuple[int, int]],
    key_mask: Tensor,
    rows: Sequence[int],
    gates: Gates | None = None,
) -> tuple[str, Tensor]:
    """As `slow_form`, for a padded batch: each sequence by itself, without its padding.

    Hidden tokens must have the effect of removed ones, so slow forms need no mask. A mechanism that
    does not take fewer tokens, as on a grid, is called with the mask. The output is 0 at padded
    queries. `lengths` are numbers of queries and keys that are not padding, by sequence; `rows`
    ascend.
    """
    q, _, v = tensors
    expected = q.new_zeros(*q.shape[:2], len(rows), v.shape[-1])
    names, given = set(), gates or {}
    for at, (num_queries, num_keys) in enumerate(lengths):
        kept = [row for row in rows if row < num_queries]
        if not kept:
            continue
        ends = (num_queries, num_keys, num_keys)
        own = [x[at : at + 1, :, :end] for x, end in zip(tensors, ends, strict=True)]
        fewer = {name: gate[at : at + 1, :, :num_queries] for name, gate in given.items()}
        try:
            name, out = slow_form(core, own, kept if len(kept) < num_queries else None, fewer)
        except (ValueError, RuntimeError):
            out = core(*tensors, **given, key_mask=key_mask)[..., list(rows), :]
            is_kept = torch.tensor([[row < ends for row in rows] for ends, _ in lengths])
            return ITSELF, out * is_kept[:, None, :, None]
        expected[at : at + 1, :, : len(kept)] = out
        names.add(name)
    return names.pop(), expected


def _surrounds_a_core(module: nn.Module) -> bool:
    """Whether a module is the projections around a core, of this library or another copy of it."""
    return type(module).__name__ == "MultiHeadAttention"


def _around(layer: Any, tensors: Sequence[Tensor], rows: Sequence[int] | None) -> tuple[str, Any]:
    """Output of a layer with the slow form of its core in place of the core's forward."""
    fast, names = layer.core.forward, []

    def slow(*heads: Tensor) -> Tensor:
        layer.core.forward = fast  # the fallback of a mechanism without a slow form
        name, out = slow_form(layer.core, heads, rows)
        names.append(name)
        return out

    layer.core.forward = slow
    out = layer(*tensors)
    return names[0], out


def can_ask_by_rows(module: nn.Module) -> bool:
    """Whether the oracle can compute some queries against all keys.

    Softmax can. A mechanism's own slow form can if the numbers of queries and keys may differ, so
    not a causal one, if it takes no gates, which come for each token, and if a query's position
    does not matter, as it does under rotations or cosFormer's weights.
    """
    core: Any = module.core if _surrounds_a_core(module) else module
    if core.capabilities.scopes == ("layer",):
        return False
    if core.capabilities.gates:
        return False
    if core.capabilities.exact:
        return True
    can_be_few = core.capabilities.cross and _has_reference(core) and not core.geometry.causal
    return can_be_few and _ignores_places(core)


def _ignores_places(core: Any) -> bool:
    """Whether the slow form's output for a query does not depend on its position, by a test."""
    geometry = core.geometry
    draw = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, heads, _NUM_TRIED, dim, generator=draw, dtype=torch.float64)
        for heads, dim in (
            (geometry.num_heads, geometry.head_dim),
            (geometry.num_kv_heads, geometry.head_dim),
            (geometry.num_kv_heads, geometry.value_dim),
        )
    )
    slow = float64_copy(core)
    some = slice(1, None, 3)
    try:
        with torch.no_grad():
            few, all_of_them = slow.reference(q[..., some, :], k, v), slow.reference(q, k, v)
    except (ValueError, RuntimeError):  # such as a grid, which fixes the number of queries
        return False
    return torch.allclose(few, all_of_them[..., some, :], rtol=1e-9, atol=1e-12)


def float64_copy(module: nn.Module) -> Any:
    """A copy of a mechanism on the CPU in float64.

    Raises:
        RuntimeError: it keeps a tensor together with the autograd graph of an earlier call.
    """
    for place, part in module.named_modules():
        for name, x in vars(part).items():
            if isinstance(x, Tensor) and x.grad_fn is not None:
                where = f"{place}.{name}".lstrip(".")
                raise RuntimeError(
                    f"it keeps {where} with the graph of an earlier call; keep {name}.detach()"
                )
    return copy.deepcopy(module).cpu().double()


def _base_of(core: Any) -> Any:
    """The `Attention` or `AttentionLayer` that a mechanism derives from, of its own library."""
    names = ("Attention", "AttentionLayer")
    return next(cls for cls in type(core).__mro__ if cls.__name__ in names)


def _softmax_written_out(q: Tensor, k: Tensor, v: Tensor, places: Tensor | None) -> Tensor:
    """Softmax attention of queries that see all keys, or up to their own position."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if places is not None:
        hidden = torch.arange(k.shape[-2]) > places[:, None]
        scores = scores.masked_fill(hidden, -torch.inf)
    out: Tensor = scores.softmax(dim=-1) @ v
    return out


def refuse_subclasses(*values: Any) -> None:
    """Refuse tensors of a subclass, which may compute only when they are first used.

    Tensors within tuples and lists are looked at too.

    Raises:
        Incorrect: one of them is such a tensor.
    """
    for value in values:
        if isinstance(value, (tuple, list)):
            refuse_subclasses(*value)
        elif isinstance(value, Tensor) and type(value) not in (Tensor, nn.Parameter):
            raise Incorrect(
                f"it returns a {type(value).__name__}, a subclass of Tensor that may compute when "
                "it is first used; a plain tensor is needed"
            )


def refuse_nothing(out: Tensor, like: Tensor) -> None:
    """Refuse an output of another shape or dtype, with values that are not finite, or constant.

    Raises:
        Incorrect: it is one of these.
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


def refuse_empty(out: Tensor) -> None:
    """Refuse an output of which more than the share `MAX_EMPTY` of the rows is zero.

    Raises:
        Incorrect: their share is larger than `MAX_EMPTY`.
    """
    empty = float((out == 0).all(dim=-1).double().mean())
    if empty > MAX_EMPTY:
        raise Incorrect(f"output is zero in {empty:.0%} of its rows")


def check_gradient(
    ours: Tensor | None, oracle: Tensor | None, tolerance: Tolerance, what: str
) -> None:
    """Refuse a gradient that differs from the oracle's; None stands for an unused input.

    Raises:
        Incorrect: it is missing, not finite, or beyond the tolerance times `GRADIENT_FACTOR`.
    """
    if oracle is None or not oracle.any():
        # An unused input: `none` and `uniform` do not use queries and keys.
        if ours is not None and not bool(ours.abs().max() <= tolerance.max_error):
            raise Incorrect(f"{what} should be zero and reaches {float(ours.abs().max()):.3g}")
        return
    if ours is None:
        raise Incorrect(f"{what} is missing")
    if not bool(ours.isfinite().all()):
        raise Incorrect(f"{what} holds values that are NaN or infinite")
    refuse_beyond(distance(ours, oracle), tolerance, GRADIENT_FACTOR, what)


def distance(ours: Tensor, oracle: Tensor) -> Errors:
    """Errors of a tensor, relative to its oracle in float64."""
    difference = ours.cpu().double() - oracle
    return Errors(
        max_error=float(difference.abs().max() / oracle.abs().max()),
        rms_error=float(difference.norm() / oracle.norm()),
    )


def refuse_beyond(errors: Errors, tolerance: Tolerance, factor: float, what: str) -> None:
    """Refuse errors beyond `factor` times the tolerance.

    Raises:
        Incorrect: naming `what` is off, and by how much.
    """
    for name in ("max_error", "rms_error"):
        error, bound = getattr(errors, name), factor * getattr(tolerance, name)
        if not error <= bound:
            raise Incorrect(
                f"{what} differs from the oracle: {name} {error:.2g}, allowed {bound:.2g}"
            )
