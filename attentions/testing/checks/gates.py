"""Gates: extra inputs per token, used as in the slow form, in every form that is claimed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...base import Attention
from ..check import Untestable, check, require
from ..forms import LONG, SEQ_LEN, Form, Gates, build, gates_of, gradients, inputs
from ..tolerances import require_near, require_near_gradients

NOW = 63
"""Token at which the past ends, the last one of a chunk of 64."""


def _gated(form: Form, seq_len: int = LONG) -> tuple[Any, tuple[Tensor, ...], Gates]:
    mechanism = build(form, seq_len=seq_len, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64)
    return mechanism, tensors, gates_of(mechanism, tensors)


def _has_gates(form: Form) -> bool:
    return form.is_core and bool(form.can.gates)


@check("forms", _has_gates, earns=False)
def each_gate_is_heeded(form: Form) -> None:
    """Without it, the output changes."""
    mechanism, tensors, gates = _gated(form)
    out = mechanism(*tensors, **gates)
    for name in gates:
        others = {other: gate for other, gate in gates.items() if other != name}
        is_same = torch.allclose(mechanism(*tensors, **others), out)
        require(not is_same, f"{name} changes nothing")


@check("reference", _has_gates)
def gated_outputs_and_gradients_equal_the_reference(form: Form) -> None:
    """Gradients of the gates as well."""
    mechanism, tensors, gates = _gated(form)
    if type(mechanism).reference is Attention.reference:  # which takes no gates
        raise Untestable("it gives no slow form")
    given = [x.requires_grad_() for x in (*tensors, *gates.values())]
    out, expected = mechanism(*tensors, **gates), mechanism.reference(*tensors, **gates)
    if expected is None:
        raise Untestable("it gives no slow form")
    require_near(out, expected, "the output with gates")
    found, wanted = gradients(out, given), gradients(expected, given)
    require_near_gradients(found, wanted, "the output with gates")


@check("causal", lambda form: _has_gates(form) and form.causal)
def later_gates_change_no_bit_of_the_past(form: Form) -> None:
    """Earlier outputs do not depend on later gates."""
    mechanism, tensors, gates = _gated(form)
    out = mechanism(*tensors, **gates)
    later = {name: gate.clone() for name, gate in gates.items()}
    for gate in later.values():
        gate[:, :, NOW + 1 :] *= torch.rand_like(gate[:, :, NOW + 1 :])
    again = mechanism(*tensors, **later)
    past = slice(0, NOW + 1)
    is_same = torch.equal(again[:, :, past], out[:, :, past])
    require(is_same, f"leaks the future: gates after {NOW} change what comes out up to {NOW}")


@check("padding", lambda form: _has_gates(form) and form.causal and "padding" in form.can.masks)
def gates_of_hidden_tokens_do_nothing(form: Form) -> None:
    """Outputs are those without the hidden tokens."""
    mechanism, tensors, gates = _gated(form, SEQ_LEN)
    key_mask = torch.rand(1, SEQ_LEN) < 0.6
    kept = key_mask[0].nonzero()[:, 0]
    out = mechanism(*tensors, **gates, key_mask=key_mask.expand(len(tensors[0]), -1))
    fewer = {name: gate[:, :, kept] for name, gate in gates.items()}
    expected = mechanism(*(x[:, :, kept] for x in tensors), **fewer)
    require_near(out[:, :, kept], expected, "the output with gates and hidden tokens")
