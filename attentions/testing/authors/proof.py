"""One golden against our mechanism, built with its settings and run in two precisions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor, nn

from ...adapters.extras import why_missing
from ...registry import attention_class, attention_names
from .build import (
    GEOMETRY_KEYS,
    Mismatch,
    build_like,
    call_shapes,
    is_causal,
    is_published,
    not_theirs,
)
from .files import DTYPES, Golden
from .map import Form


class ProofStatus(StrEnum):
    """How a proof ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_COVERED = "not_covered"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One case and how it ended.

    Attributes:
        golden: folder/case, such as ``linear_elu/full_b2h2n49d16``.
        mechanism: our registered name; None if we have no such mechanism.
        case: the second half of `golden`.
        error, bound, dtype: of the comparison that was worst relative to its bound, as absolute
            values; None if nothing was compared, `error` also if ours was not finite.
        reason: None only if the case passed in full, by the default kernel.
        source: hash of the mechanism's source; empty if `mechanism` is None.
    """

    golden: str
    mechanism: str | None
    case: str
    status: ProofStatus
    error: float | None = None
    bound: float | None = None
    dtype: str | None = None
    reason: str | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The largest absolute difference of one result in one precision.

    Attributes:
        error: NaN if ours is not finite, or has another shape.
        rows_left_out: rows that are not finite in the official result.
    """

    result: str
    dtype: str
    error: float
    bound: float
    rows_left_out: int = 0
    remark: str = ""

    @property
    def holds(self) -> bool:
        """Whether the error, a number, is within its bound."""
        return self.error <= self.bound

    @property
    def strain(self) -> float:
        """Error over bound; infinite for any error above a bound of zero, and for NaN."""
        if self.holds:
            return self.error / self.bound if self.bound else 0.0
        return self.error / self.bound if self.bound and not math.isnan(self.error) else math.inf

    def describe(self) -> str:
        """Say what is wrong, for a table's reader."""
        what = self.remark or f"is off by {self.error:.3g}, the bound is {self.bound:.3g}"
        return f"{self.result} in {self.dtype} {what}"


def prove(golden: Golden, form: Form) -> Proof:
    """Compare every stored result with ours, in float64 and in float32."""
    name = form.mechanism if form.mechanism in attention_names() else None
    try:
        reason = form.reason
        if reason is None and name is None:
            reason = f"no mechanism is named {form.mechanism} yet"
        elif reason is None and name:
            reason = _unclaimed(golden, form, name)
        if name is None or reason is not None:
            return _proof(golden, name, ProofStatus.NOT_COVERED, reason)
        return _judge(golden, form, name)
    except Exception as error:  # a mechanism that raises has failed its proof, the others have not
        lost = str(error) if isinstance(error, Mismatch) else f"{type(error).__name__}: {error}"
        return _proof(golden, name, ProofStatus.FAILED, lost)


def _judge(golden: Golden, form: Form, name: str) -> Proof:
    """Compare in the precisions that are claimed; the worst comparison decides."""
    claimed = [dtype for dtype in DTYPES if dtype in attention_class(name).capabilities.dtypes]
    compared = [c for dtype in claimed for c in _compare_all(golden, form, name, dtype)]
    compared, remark = _unfused_if_need_be(golden, form, name, compared)
    worst = max(compared, key=lambda c: c.strain)
    broken = [c.describe() for c in sorted(compared, key=lambda c: -c.strain) if not c.holds]
    taken = form.hyper.keys() | form.derived.keys() | golden.header.settings.keys() | GEOMETRY_KEYS
    unmapped = sorted(golden.header.hyper.keys() - taken)
    if broken and unmapped:
        broken.append(f"official hyperparameters without a counterpart: {', '.join(unmapped)}")
    told = [t for t in (remark, _not_asked(claimed, name), _left_out(compared, name)) if t]
    status = ProofStatus.FAILED if broken else ProofStatus.PASSED
    return replace(
        _proof(golden, name, status, "; ".join(broken or told) or None),
        error=worst.error if math.isfinite(worst.error) else None,
        bound=worst.bound,
        dtype=worst.dtype,
    )


def _unfused_if_need_be(
    golden: Golden, form: Form, name: str, compared: list[Comparison]
) -> tuple[list[Comparison], str | None]:
    """Repeat float32 with the form's unfused kernel, and give a remark that says so.

    Only if float64 is within its bounds by the default kernel: then the formula is right, and the
    rest is that kernel's rounding. If the unfused one is beyond a bound too, the first comparisons
    stay.
    """
    beyond = [c for c in compared if not c.holds]
    if not form.unfused or not beyond or any(c.dtype != "float32" for c in beyond):
        return compared, None
    unfused = replace(form, defaults={**form.defaults, **form.unfused})
    again = list(_compare_all(golden, unfused, name, "float32"))
    if not all(c.holds for c in again):
        return compared, None
    kernel = ", ".join(f"{key}={value}" for key, value in form.unfused.items())
    lost = ", ".join(c.describe() for c in beyond)
    kept = [c for c in compared if c.dtype != "float32"]
    return kept + again, f"proven by {kernel} in float32, as by the fused kernel {lost}"


def _proof(golden: Golden, mechanism: str | None, status: ProofStatus, reason: str | None) -> Proof:
    name, case = golden.header.name, golden.header.case
    return Proof(golden=name, mechanism=mechanism, case=case, status=status, reason=reason)


def _has_gradients(name: str) -> bool:
    return "cpu" in attention_class(name).capabilities.backward_devices


def _not_asked(claimed: list[str], name: str) -> str | None:
    """Dtypes and gradients that a mechanism does not claim and was not asked for, in words."""
    missing = [dtype for dtype in DTYPES if dtype not in claimed]
    missing += [] if _has_gradients(name) else ["gradients"]
    return f"not claimed, and not asked for: {', '.join(missing)}" if missing else None


def _left_out(compared: list[Comparison], name: str) -> str | None:
    partial = {c.result: c.rows_left_out for c in compared if c.rows_left_out}
    if not partial:
        return None
    rows = ", ".join(f"{count} rows of {result}" for result, count in partial.items())
    ours = "" if is_published(name) else "; ours is finite there"
    return f"not finite officially and left out: {rows}{ours}"


def _unclaimed(golden: Golden, form: Form, name: str) -> str | None:
    """Say what the case needs and our mechanism does not claim to do; None if it claims all."""
    if is_published(name) and (lacking := not_theirs(golden, form, name)):
        return f"{name} has no {lacking}"
    can, shapes = attention_class(name).capabilities, golden.header.shapes
    if missing := why_missing(name, can.requires):
        return missing
    causal = is_causal(golden, name)
    if not (can.causal if causal else can.bidirectional):
        return f"{name} has no {'causal' if causal else 'bidirectional'} form"
    if shapes.keys() & {"w.mask", "w.key_mask"} and not can.masks:
        return f"{name} takes no mask"
    if "mask" in _masks(golden, name) and "dense" not in can.masks:
        return f"{name} takes no mask of pairs"
    ours = call_shapes(golden.header, form)
    q, k = ours.get("q"), ours.get("k")
    if q and k and q[-2:-1] != k[-2:-1] and not can.cross:
        return f"{name} needs as many keys as queries"
    return None


def _compare_all(golden: Golden, form: Form, name: str, dtype: str) -> Iterator[Comparison]:
    kind = getattr(torch, dtype)
    module = build_like(golden, form, name, kind)
    inputs = {
        key.removeprefix("in."): value.to(kind, copy=True).requires_grad_(_has_gradients(name))
        for key, value in golden.tensors.items()
        if key.startswith("in.") and value.is_floating_point()
    }
    odd = [
        key
        for key, value in golden.tensors.items()
        if key.startswith("in.") and not value.is_floating_point() and key != "in.heads"
    ]
    if odd:
        raise Mismatch(
            f"the golden's input {odd[0]} is {golden.header.dtypes[odd[0]]}, which nothing takes; "
            "floats are inputs, and masks are stored as w.mask or w.key_mask"
        )
    if form.method is not None:
        out: Tensor = getattr(module, form.method)(*inputs.values())
    else:
        out = _call(module, inputs, _masks(golden, name), form)
    official, bounds = golden.tensors, golden.header.bounds[dtype]
    if out.shape != official["out"].shape:
        yield compare("out", dtype, out, official["out"], bounds["out"])
        return
    if not _has_gradients(name):
        yield compare("out", dtype, out, official["out"], bounds["out"])
        return
    loss = (out * official["cot"].to(kind)).sum()
    grads = torch.autograd.grad(
        loss, list(inputs.values()), allow_unused=True, materialize_grads=True
    )
    ours = {f"grad.{key}": grad for key, grad in zip(inputs, grads, strict=True)}
    for feature, (method, argument) in form.features.items():
        if feature in official:
            ours[feature] = getattr(module, method)(inputs[argument])
    for result in golden.header.results:
        # Besides `out` there may be the output of another official implementation, as out_sdpa.
        value = out if result.partition("_")[0] == "out" else ours.get(result)
        if value is None:
            raise Mismatch(f"the golden holds {result}, which is mapped to nothing of {name}")
        if is_published(name):  # the same code, so it need not be finite where theirs is not
            rows = ~official[result].isfinite().all(dim=-1, keepdim=True)
            value = value.masked_fill(rows, 0.0)
        yield compare(result, dtype, value, official[result], bounds[result])


def _masks(golden: Golden, name: str) -> dict[str, Tensor]:
    """Masks of the call; one that hides whole keys becomes ``key_mask`` if we take no dense one.

    Raises:
        Mismatch: a mask has other numbers than 0 and 1, as one that is added to scores.
    """
    masks: dict[str, Tensor] = {}
    for key in ("mask", "key_mask"):
        if (stored := golden.tensors.get(f"w.{key}")) is not None:
            masks[key] = stored != 0
            if not torch.equal(stored.double(), masks[key].double()):
                raise Mismatch(f"the golden's {key} holds more than 0 and 1, where 1 keeps")
    mask, key_mask = masks.get("mask"), masks.get("key_mask")
    if mask is not None and "dense" not in attention_class(name).capabilities.masks:
        pairs = mask[(None,) * (4 - mask.ndim)]  # as it is spread over (B, H, N, M)
        if pairs.ndim == 4 and bool((pairs == pairs[:, :1, :1]).all()):
            own = pairs[:, 0, 0]
            masks = {"key_mask": own if key_mask is None else own & key_mask}
    if "key_mask" in masks:  # may be stored once for all items of the batch
        masks["key_mask"] = masks["key_mask"].expand(len(golden.tensors["out"]), -1)
    return masks


def _call(
    module: nn.Module, inputs: dict[str, Tensor], masks: dict[str, Tensor], form: Form
) -> Tensor:
    x = inputs.get("x")
    if x is None or x.ndim != 4:
        named = {form.inputs.get(key, key): value for key, value in inputs.items()}
        if form.tokens_first:
            named = {key: value.transpose(1, 2) for key, value in named.items()}
        out: Tensor = module(**named, **masks)
        return out.transpose(1, 2) if form.tokens_first else out
    # Modules of vision models take (B, C, rows, columns); ours take tokens, row by row.
    tokens: Tensor = module(x.flatten(2).transpose(1, 2), **masks)
    return tokens.transpose(1, 2).reshape(*tokens.shape[::2], *x.shape[2:])


def compare(result: str, dtype: str, ours: Tensor, official: Tensor, bound: float) -> Comparison:
    """Largest difference over the rows that are finite in the official result.

    Ours must be finite everywhere.
    """
    found = Comparison(result=result, dtype=dtype, error=math.nan, bound=bound)
    if ours.shape != official.shape:
        remark = f"has the shape {tuple(ours.shape)}, officially {tuple(official.shape)}"
        return replace(found, remark=remark)
    rows = official.isfinite().all(dim=-1)
    found = replace(found, rows_left_out=int((~rows).sum()))
    if bad := int((~ours.isfinite()).sum()):
        return replace(found, remark=f"is not finite in {bad} of {ours.numel()} entries")
    difference = (ours.detach().double() - official.double()).abs()[rows]
    return replace(found, error=float(difference.max()) if difference.numel() else 0.0)
