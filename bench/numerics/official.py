"""Where the authors' operators give NaN or infinity: run again, beside ours, in the same dtype.

Over there nothing is widened: a model in half precision runs them wholly in that dtype. So they are
run here, as functions, past the widening that ``implementation=official`` adds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attentions import Geometry, _official, build_attention
from attentions.maths.heads import merge_heads
from bench.conformance.forms import gradients, inputs, name_of
from bench.numerics.cases import PLAIN, Inputs, hard_inputs

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
_SEQ_LEN, _LONG, _HEAD_DIM = 49, 4096, 16
_LOST = 1e-3


@dataclass(frozen=True, kw_only=True)
class Place:
    """An input on which their result is not finite, or is lost.

    Attributes:
        mechanism: the entry whose operators they are.
        case: one of `cases.hard_inputs`, or unit-normal inputs.
    """

    mechanism: str
    case: str
    dtype: torch.dtype
    seq_len: int = _SEQ_LEN


PLACES = (
    Place(mechanism="nala", case="a zero query", dtype=F32),
    Place(mechanism="nala", case="norm 1e-6", dtype=F16),
    Place(mechanism="nala", case="all keys zero", dtype=F16),
    Place(mechanism="nala_cosine", case="a zero key", dtype=F32),
    Place(mechanism="flatten", case="norm 1e-6", dtype=F16),
    Place(mechanism="flatten", case="a zero query", dtype=F16),
    Place(mechanism="flatten", case="all keys zero", dtype=F16),
    Place(mechanism="flatten", case="all negative", dtype=F16),
    Place(mechanism="performer", case=PLAIN, dtype=F16),
    Place(mechanism="performer", case="norm 50", dtype=F16),
    Place(mechanism="linear", case=PLAIN, dtype=F16, seq_len=_LONG),
    Place(mechanism="cosformer", case="all keys zero", dtype=F16),
    Place(mechanism="polaformer", case="norm 50", dtype=F16),
    Place(mechanism="polaformer", case="norm 1e-6", dtype=F16),
)


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is wrong with theirs and with ours at a place, in words; empty if nothing is."""

    mechanism: str
    case: str
    dtype: str
    seq_len: int
    theirs: str
    ours: str
    torch: str


def beside_theirs(place: Place) -> Beside:
    """Run both."""
    torch.manual_seed(0)
    geometry = Geometry(num_heads=2, head_dim=_HEAD_DIM, seq_len=place.seq_len)
    ours: Any = build_attention(place.mechanism, geometry).to(place.dtype)
    plain = inputs(ours, batch_size=1)
    chosen = ({PLAIN: plain} | hard_inputs(plain, place.dtype))[place.case]
    given = tuple(x.to(place.dtype) for x in chosen)
    with torch.no_grad():
        real = copy.deepcopy(ours).double()(*(x.double() for x in given))
    return Beside(
        mechanism=place.mechanism,
        case=place.case,
        dtype=name_of(place.dtype),
        seq_len=place.seq_len,
        theirs=_wrong_with(lambda *x: _THEIRS[place.mechanism](ours, *x), given, real),
        ours=_wrong_with(ours, given, real),
        torch=torch.__version__,
    )


def _wrong_with(call: Callable[..., Tensor], given: Inputs, real: Tensor) -> str:
    tensors = [x.clone().requires_grad_() for x in given]
    out = call(*tensors)
    if bool((out.eq(0).all(dim=-1) & real.abs().amax(dim=-1).gt(_LOST)).any()):
        return "rows of zeros, as their normaliser is infinite"
    wrong = [] if bool(out.isfinite().all()) else ["output"]
    if not all(bool(g.isfinite().all()) for g in gradients(out, tensors)):
        wrong.append("gradient")
    return f"{' and '.join(wrong)} not finite" if wrong else ""


def _nala(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _official.nala(q, k, v, lam=m.lam, tau=m.tau, eps=m.eps, table=None)


def _nala_cosine(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    settings = {name: getattr(m, name) for name in ("alpha", "lam", "tau", "key_power", "eps")}
    return _official.nala_cosine(q, k, v, **settings)


def _flatten(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    tokens_q, tokens_k = merge_heads(q), merge_heads(k)
    scale = m.scale.to(q.dtype)
    return _official.flatten(tokens_q, tokens_k, v, scale, factor=m.kernel.factor, eps=m.kernel.eps)


def _performer(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _official.performer(q, k, v, m.projection.to(q.dtype), kernel=m.kernel, eps=m.eps)


def _linear(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    tokens_first = (x.transpose(1, 2) for x in (q, k, v))
    return _official.linear(*tokens_first, eps=m.eps).transpose(1, 2)


def _cosformer(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    rows = (x.flatten(0, 1) for x in (q, k, v))
    return _official.cosformer(*rows, eps=m.eps)


def _polaformer(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (merge_heads(x) for x in (q, k, v))
    scale, power = m.scale.to(q.dtype), m.power.to(q.dtype)
    return _official.polaformer(q, k, v, scale, power, alpha=m.alpha, eps=m.eps)


_THEIRS: dict[str, Callable[..., Tensor]] = {
    "nala": _nala,
    "nala_cosine": _nala_cosine,
    "flatten": _flatten,
    "performer": _performer,
    "linear": _linear,
    "cosformer": _cosformer,
    "polaformer": _polaformer,
}
