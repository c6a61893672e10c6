"""Costs: the proof of the FLOP formulas."""

from __future__ import annotations

from dataclasses import asdict

from ...registry import attention_class
from ..check import Record, Untestable, check, require
from ..flops import FlopVerdict, forms_of, prove_form
from ..forms import Form


@check("flops", records=True)
def flops_are_what_is_counted_and_what_slow_forms_need(form: Form, record: Record) -> None:
    """At default settings; a formula that nothing confirms counts as untestable."""
    if form.settings:
        raise Untestable("formulas are proven at default settings")
    kind = attention_class(form.name)
    names = ("causal", "decode") if form.causal else ("bidirectional", "cross")
    proofs = [prove_form(kind, name) for name in forms_of(kind) if name in names]
    for proof in proofs:
        record("flops", asdict(proof))
    for proof in proofs:
        words = f"{proof.form}: {proof.reason}"
        if proof.formula is not None:  # None if a call fails: no formula would mend that
            words = f"{words}. {_remedy(form, proof.form)}"
        require(proof.status is not FlopVerdict.FAILED, words)
    open_ones = [proof for proof in proofs if proof.status is FlopVerdict.UNCONFIRMED]
    if open_ones:
        raise Untestable(f"{open_ones[0].form}: {open_ones[0].reason}")


def _remedy(form: Form, proven: str) -> str:
    """Advice for a formula that failed, by the form and the mechanism's claims."""
    if proven == "decode":
        return "decode_flops(shape) is to return the FLOPs of one `step`."
    if proven == "causal" and form.can.recurrent:
        return (
            "flops(shape) is to count the recurrence, token by token. If `forward` executes more, "
            "as in chunks, let executed_flops(shape) return that."
        )
    return "Let flops(shape) count each product of the formula, 2 FLOPs per multiply-add."
