import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attentions import attention_class
from attentions.testing.authors.files import Golden, GoldenFolder
from attentions.testing.authors.map import Form, form_of
from attentions.testing.authors.proof import ProofStatus, compare, prove
from tests.attentions.testing.authors.copies import PUBLIC

CASE = "linear_elu/full_b2h2n49d16"
NAN = math.nan


@pytest.fixture
def golden():
    folder = GoldenFolder(PUBLIC)
    return folder.read(folder.header(CASE))


def proof_of(golden):
    return prove(golden, form_of(golden.header))


def replace_forward(monkeypatch, name, change):
    cls = attention_class(name)
    right = cls.forward

    def forward(self, q, k, v, **masks):
        return change(right(self, q, k, v, **masks), q, k, v)

    monkeypatch.setattr(cls, "forward", forward)


def test_the_right_mechanism_passes_with_its_worst_comparison(golden):
    proof = proof_of(golden)
    assert (proof.status, proof.mechanism, proof.reason) == (ProofStatus.PASSED, "linear", None)
    assert proof.dtype in ("float32", "float64")
    assert 0 < proof.error <= proof.bound
    assert proof.bound in golden.header.bounds[proof.dtype].values()


def raises(*_):
    raise ZeroDivisionError("no keys")


@pytest.mark.parametrize(
    ("change", "told", "untold"),
    [
        (lambda out, *_: out * 1.001, ("out in float64", "out in float32", "grad.v in"), "none"),
        (lambda out, *_: out * (1 + 1e-8), ("out in float64",), "float32"),
        (
            lambda out, *_: out if out.dtype == torch.float64 else out.bfloat16().float(),
            ("out in float32",),
            "float64",
        ),
        (lambda out, q, k, v: out + (q - q.detach()).sum(), ("grad.q",), "out in"),
        (lambda out, q, k, v: (out - v).detach() + v, ("grad.k in float64 is off by",), "out in"),
        (lambda out, *_: out / 0, ("out in float64 is not finite in",), "is off"),
        (
            lambda out, *_: out.flatten(0, 1),
            ("has the shape (4, 49, 16), officially (2, 2, 49, 16)",),
            "is off",
        ),
        (raises, ("ZeroDivisionError: no keys",), "is off"),
    ],
)
def test_a_wrong_mechanism_fails_by_what_is_wrong(golden, monkeypatch, change, told, untold):
    replace_forward(monkeypatch, "linear", change)
    proof = proof_of(golden)
    reason = proof.reason or ""
    assert proof.status is ProofStatus.FAILED
    assert all(words in reason for words in told) and untold not in reason
    if proof.error is not None:
        assert proof.error > proof.bound and (proof.dtype in reason.partition(";")[0])
        worst = f"is off by {proof.error:.3g}, the bound is {proof.bound:.3g}"
        assert worst in reason.partition(";")[0]


# A kernel's own rounding.


def coarse(monkeypatch, backends, dtype):
    """A golden of softmax attention, of which some kernels are off by a thousandth in a dtype."""
    cls = attention_class("softmax")
    right = cls.forward

    def forward(self, q, k, v, **masks):
        is_coarse = self.backend in backends and q.dtype == dtype
        out: Tensor = right(self, q, k, v, **masks)
        return out * 1.001 if is_coarse else out

    monkeypatch.setattr(cls, "forward", forward)
    folder = GoldenFolder(PUBLIC)
    return folder.read(folder.header("softmax/full_b2h2n49d16"))


def test_a_fused_kernel_beyond_a_float32_bound_is_told_where_the_unfused_one_holds(monkeypatch):
    proof = proof_of(coarse(monkeypatch, ("auto",), torch.float32))
    assert proof.status is ProofStatus.PASSED
    assert proof.error is not None and proof.bound is not None and proof.error <= proof.bound
    assert proof.dtype == "float32"
    assert (proof.reason or "").startswith("proven by backend=math in float32")
    assert "out in float32 is off by" in (proof.reason or "")


def test_a_float32_error_of_both_kernels_fails_by_that_of_the_fused_one(monkeypatch):
    proof = proof_of(coarse(monkeypatch, ("auto", "math"), torch.float32))
    assert proof.status is ProofStatus.FAILED
    assert "out in float32 is off by" in (proof.reason or "")
    assert "backend" not in (proof.reason or "")


def test_a_wrong_formula_gets_no_second_chance(monkeypatch):
    proof = proof_of(coarse(monkeypatch, ("auto",), torch.float64))
    assert proof.status is ProofStatus.FAILED


def test_a_failure_names_hyperparameters_that_nothing_of_ours_takes(golden):
    proof = prove(golden, Form(mechanism="linear", defaults={"eps": 0.1}))
    assert proof.status is ProofStatus.FAILED
    assert "without a counterpart: eps, feature, scale" in (proof.reason or "")
    followed = Form(mechanism="linear", derived={"eps": lambda header: 0.1}, hyper={"scale": "no"})
    bare = replace(golden, header=replace(golden.header, hyper={"eps": "small", "feature": 1}))
    said = (prove(bare, followed).reason or "").partition("without a counterpart: ")[2]
    assert said == "feature"


def test_what_is_not_claimed_is_not_covered(golden, monkeypatch):
    folder = GoldenFolder(PUBLIC)
    form = Form(mechanism="none")
    cross = prove(folder.read(folder.header("softmax/cross_keymask_q19_k45")), form)
    assert (cross.status, cross.mechanism) == (ProofStatus.NOT_COVERED, "none")
    assert "takes no mask" in (cross.reason or "")


def test_a_mechanism_that_is_causal_only_needs_no_tag_and_has_no_other_form():
    folder = GoldenFolder(PUBLIC)
    golden = folder.read(folder.header("comba/small_keys"))
    bare = replace(golden, header=replace(golden.header, tags=frozenset()))
    assert proof_of(bare).status is ProofStatus.PASSED
    switched = replace(bare, tensors=bare.tensors | {"w.causal": torch.tensor(0)})
    proof = proof_of(switched)
    assert proof.status is ProofStatus.NOT_COVERED
    assert proof.reason == "comba has no bidirectional form"


def test_a_feature_map_that_differs_from_the_stored_one_fails():
    folder = GoldenFolder(PUBLIC)
    golden = folder.read(folder.header("performer/softmax_b2h2n49d16m24"))
    wrong = golden.tensors | {"phi_k": golden.tensors["phi_k"] * 1.001}
    proof = proof_of(replace(golden, tensors=wrong))
    assert proof.status is ProofStatus.FAILED
    assert (proof.reason or "").startswith("phi_k in float64 is off by")


def test_what_nothing_takes_fails_by_its_name(golden):
    for name, value in (("in.key_mask", torch.ones(2, 49).bool()), ("outer", torch.ones(1))):
        tensors = golden.tensors | {name: value}
        shapes = golden.header.shapes | {name: tuple(value.shape)}
        dtypes = golden.header.dtypes | {name: str(value.dtype).removeprefix("torch.")}
        header = replace(golden.header, shapes=shapes, dtypes=dtypes)
        proof = proof_of(Golden(header=header, tensors=tensors))
        assert proof.status is ProofStatus.FAILED
        assert name in (proof.reason or "") and "nothing" in (proof.reason or "")


# The comparison itself.


def compared(ours, official, bound=0.1):
    return compare("out", "float64", torch.tensor(ours), torch.tensor(official).double(), bound)


def test_rows_that_are_not_finite_officially_are_left_out():
    result = compared([[9.0, 9.0], [1.0, 2.05]], [[NAN, 0.0], [1.0, 2.0]])
    assert result.holds and result.rows_left_out == 1
    assert result.error == pytest.approx(0.05)
    infinite = compared([[9.0, 9.0], [1.0, 2.0]], [[math.inf, 0.0], [1.0, 2.0]])
    assert infinite.holds and infinite.rows_left_out == 1


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_ours_must_be_finite_where_the_official_result_is_not(bad):
    result = compared([[bad], [1.0]], [[NAN], [1.0]])
    assert not result.holds
    assert result.strain == math.inf
    assert result.describe() == "out in float64 is not finite in 1 of 2 entries"


def test_a_bound_of_zero_allows_no_error():
    assert compared([[0.0]], [[0.0]], bound=0.0).strain == 0
    above = compared([[1e-30]], [[0.0]], bound=0.0)
    assert not above.holds and above.strain == math.inf
