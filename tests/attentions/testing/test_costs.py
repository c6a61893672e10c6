"""Advice to a mechanism whose FLOP formula has failed."""

from dataclasses import asdict
from types import SimpleNamespace

import pytest

from attentions.testing.check import Broken, Untestable
from attentions.testing.checks import costs
from attentions.testing.flops import FlopProof


@pytest.mark.parametrize(
    ("claims_state", "form", "told"),
    [
        (True, "causal", "let executed_flops(shape) return that"),
        (True, "decode", "decode_flops(shape) is to return the FLOPs of one `step`"),
        (False, "bidirectional", "2 FLOPs per multiply-add"),
    ],
)
def test_the_message_says_which_method_is_to_return_what(monkeypatch, claims_state, form, told):
    said = advice(monkeypatch, form, claims_state, formula=2, reason="flops() says 2")
    assert f"{form}: flops() says 2. " in said and told in said


def test_a_call_that_fails_gets_no_advice_about_formulas(monkeypatch):
    said = advice(monkeypatch, "causal", True, formula=None, reason="TypeError: no step.")
    assert said == "causal: TypeError: no step."


def test_a_formula_that_nothing_confirms_is_not_testable(monkeypatch):
    open_one = {"status": costs.FlopVerdict.UNCONFIRMED, "formula": 2, "reason": "no counter"}
    assert advice(monkeypatch, "causal", True, Untestable, **open_one) == "causal: no counter"


def advice(monkeypatch, form, claims_state, kind=Broken, **found):
    """The message about a proof that failed unless another status is given."""
    proof = FlopProof(
        **{"mechanism": "mine", "form": form, "status": costs.FlopVerdict.FAILED} | found
    )
    monkeypatch.setattr(costs, "attention_class", lambda name: None)
    monkeypatch.setattr(costs, "forms_of", lambda kind: [form])
    monkeypatch.setattr(costs, "prove_form", lambda kind, name: proof)
    claimed = SimpleNamespace(
        name="mine",
        causal=form != "bidirectional",
        can=SimpleNamespace(recurrent=claims_state),
        settings={},
    )
    recorded = []
    with pytest.raises(kind) as failed:
        costs.flops_are_what_is_counted_and_what_slow_forms_need(
            claimed, lambda _, facts: recorded.append(facts)
        )
    assert recorded == [asdict(proof)]
    return str(failed.value)
