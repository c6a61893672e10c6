"""Right formulas are confirmed, wrong ones fail, and what nothing confirms is not passed over."""

import functools

import pytest
import torch
from torch.nn import functional

from attentions import attention_class, attention_names
from attentions.base import Mechanism
from attentions.testing.flops import FlopVerdict, prove_flops, prove_form
from tests.attentions.testing import formula_mechanisms as made

CONFIRMED, FAILED, UNCONFIRMED = FlopVerdict.CONFIRMED, FlopVerdict.FAILED, FlopVerdict.UNCONFIRMED


@functools.cache
def proofs(kind):
    return {proof.form: proof for proof in prove_flops(kind)}


def statuses(kind):
    return {form: proof.status for form, proof in proofs(kind).items()}


@pytest.mark.parametrize(
    "kind", [made.Explicit, made.Recurrence, made.Window, made.Fused, made.Projected]
)
def test_right_formulas_are_confirmed(kind):
    found = proofs(kind)
    assert {p.form: p.reason for p in found.values() if p.status is not CONFIRMED} == {}


@made.claims("mapped", causal=True, cross=True)
class Mapped(made.Explicit):
    """Softmax behind a learned map of its queries, which starts as the identity."""

    def __init__(self, geometry):
        super().__init__(geometry)
        self.map = torch.nn.Parameter(torch.eye(geometry.head_dim))

    def forward(self, q, k, v):
        return super().forward(q @ self.map, k, v)

    def flops(self, shape):
        return super().flops(shape) + 2 * shape.num_tokens * shape.head_dim**2

    def executed_flops(self, shape):
        return super().executed_flops(shape) + 2 * shape.num_tokens * shape.head_dim**2


@pytest.mark.parametrize("form", ["bidirectional", "cross", "causal"])
def test_a_map_that_starts_as_the_identity_is_work_all_the_same(form):
    proof = proofs(Mapped)[form]
    assert proof.status is not FAILED, proof.reason


@made.claims("sdpa", causal=True, cross=True)
class Sdpa(made.Explicit):
    """Torch's causal attention; what its code executes is left to the usual `executed_flops`."""

    executed_flops = Mechanism.executed_flops

    def forward(self, q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=self.geometry.causal)


def test_the_pairs_that_torchs_causal_attention_hides_need_not_be_in_what_is_executed():
    assert proofs(Sdpa)["causal"].status is CONFIRMED
    assert prove_form(Sdpa, "causal", at_a_glance=True).times_off is None
    twice = made.off_by(Sdpa, 2.0, "flops")
    assert prove_form(twice, "causal", at_a_glance=True).times_off == pytest.approx(0.5)


def test_a_causal_formula_is_confirmed_by_the_pairs_that_are_seen_one_by_one():
    proof = proofs(made.Explicit)["causal"]
    assert proof.shape == "B1 H1 N24 D16 E8"
    assert proof.formula == proof.needed == 2 * (24 * 25 // 2) * (16 + 8)
    assert proof.method == "pair by pair"
    assert proof.executed == proof.counted == 2 * 24 * 24 * (16 + 8)


def test_a_recurrence_needs_what_its_steps_take_and_a_step_what_is_counted():
    causal, decode = proofs(made.Recurrence).values()
    assert causal.method == "token by token"
    assert causal.needed == causal.formula == 4 * 300 * 16 * 16 < causal.executed
    assert decode.counted == decode.needed == decode.formula == 4 * 256 * 256


def test_pairs_that_a_window_leaves_out_are_not_needed():
    proof = proofs(made.Window)["bidirectional"]
    assert proof.status is CONFIRMED
    without = made.off_by(made.Window, 1.0)
    without.flops = made.Window.executed_flops  # as if all pairs were needed
    assert "pair by pair it takes" in proofs(without)["bidirectional"].reason


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_a_formula_that_is_wrong_by_two_per_cent_fails(factor):
    wrong = made.off_by(made.Explicit, factor, "flops", "executed_flops")
    assert set(statuses(wrong).values()) == {FAILED}
    assert "are counted" in proofs(wrong)["bidirectional"].reason


@pytest.mark.parametrize(("kind", "factor"), [(made.Explicit, 0.98), (made.Fused, 1.02)])
def test_what_a_causal_form_needs_is_wrong_by_two_per_cent_even_if_what_it_executes_is_right(
    kind, factor
):
    wrong = proofs(made.off_by(kind, factor, "flops"))["causal"]
    assert wrong.status is FAILED
    assert "flops() says" in wrong.reason and "it takes" in wrong.reason


def test_a_decode_step_has_a_formula_of_its_own():
    wrong = made.off_by(made.Recurrence, 1.02, "decode_flops")
    assert statuses(wrong) == {"causal": FAILED, "decode": FAILED}  # the steps are not the whole


def test_a_formula_that_is_wrong_only_for_many_tokens_fails():
    class Growing(made.Explicit):
        def executed_flops(self, shape):
            extra = 1.03 if shape.query_len > 2048 else 1.0
            return int(extra * super().executed_flops(shape))

    proof = proofs(Growing)["bidirectional"]
    assert proof.status is FAILED and proof.shape == "B1 H1 N2100 D16 E16"


def test_more_than_is_executed_cannot_be_needed():
    wrong = made.off_by(made.Projected, 1.02, "flops")
    wrong.executed_flops = made.Projected.flops
    proof = proofs(wrong)["bidirectional"]
    assert proof.status is FAILED and "no more than" in proof.reason


@pytest.mark.parametrize("kind", [made.Fourier, made.Elementwise])
def test_a_formula_that_nothing_confirms_is_unconfirmed_and_says_why(kind):
    proof = proofs(kind)["bidirectional"]
    assert proof.status is UNCONFIRMED
    assert proof.counted == 0 and proof.formula > 0
    assert "no slow form takes" in proof.reason and "no counter saw" in proof.reason


def test_waste_that_a_slow_form_does_not_show_to_be_waste_is_unconfirmed():
    less = made.off_by(made.Projected, 0.9, "flops")
    less.executed_flops = made.Projected.flops
    assert statuses(less) == {"bidirectional": UNCONFIRMED}


def test_a_mechanism_that_takes_other_shapes_is_watched_at_those():
    class Blocks(made.Explicit):
        def forward(self, q, k, v):
            if q.shape[-2] % 64 or v.shape[-1] != q.shape[-1]:
                raise ValueError("a multiple of 64 tokens, and as many channels")
            return super().forward(q, k, v)

    made.claims("blocks")(Blocks)
    proof = proofs(Blocks)["bidirectional"]
    assert proof.status is CONFIRMED and proof.shape == "B1 H1 N64 D16 E16"


def test_the_way_that_is_counted_is_that_of_the_dtype_that_is_timed():
    class Narrow(made.Explicit):
        def forward(self, q, k, v):
            out = super().forward(q, k, v)
            return super().forward(q, k, v) if q.dtype is torch.float64 else out

    assert set(statuses(Narrow).values()) == {CONFIRMED}


@pytest.mark.slow
@pytest.mark.parametrize("name", attention_names())
def test_no_formula_of_a_mechanism_is_wrong(name):
    found = proofs(attention_class(name))
    assert found
    assert {p.form: p.reason for p in found.values() if p.status is FAILED} == {}
