"""Inputs, masks, grids and settings of goldens, in all forms in which a file may state them."""

import pytest
import torch

from attentions import Geometry, build_attention
from attentions.testing.authors.map import form_of
from attentions.testing.authors.proof import ProofStatus, prove
from tests.attentions.testing.authors.made import assert_proven, golden_of, qkv, seeded


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((5, 7), torch.bool), ((1, 1, 5, 7), torch.int64), ((3, 2, 5, 7), torch.float32)],
)
def test_a_dense_mask_of_any_kind_is_passed_on(shape, kind):
    softmax = build_attention("softmax", Geometry(num_heads=2, head_dim=4, value_dim=3, seq_len=7))
    mask = seeded(*shape, seed=9) > 0
    mask[..., 0] = True
    golden = golden_of(
        "softmax",
        softmax,
        qkv(3, 2, 5, 7, 4, 3),
        {"mask": mask.to(kind)},
        {"scale": "D**-0.5"},
        call=lambda q, k, v: softmax(q, k, v, mask=mask),
    )
    assert_proven(golden, "softmax")


KEEP = torch.tensor([[1, 1, 0, 1, 0, 1, 1], [1, 0, 0, 0, 0, 0, 0], [1] * 7]).bool()
ONCE = KEEP[:1].expand(3, 7)


@pytest.mark.parametrize(
    ("name", "stored", "keep"),
    [
        ("key_mask", KEEP.float(), KEEP),
        ("key_mask", KEEP[0], ONCE),
        ("mask", KEEP[:, None, None], KEEP),
        ("mask", KEEP[:, None, None].expand(3, 2, 5, 7).float(), KEEP),
        ("mask", KEEP[:1].expand(5, 7), ONCE),
    ],
)
def test_a_mask_of_whole_keys_is_said_the_way_the_mechanism_takes_it(name, stored, keep):
    geometry = Geometry(num_heads=2, head_dim=4, value_dim=3, seq_len=7)
    linear = build_attention("linear", geometry, eps=0.5)
    golden = golden_of(
        "linear_elu",
        linear,
        qkv(3, 2, 5, 7, 4, 3),
        {name: stored},
        {"eps": 0.5, "feature": "elu+1"},
        call=lambda q, k, v: linear(q, k, v, key_mask=keep),
    )
    assert_proven(golden, "linear")


def test_masks_of_both_kinds_hide_together_and_one_of_pairs_is_not_covered():
    linear = build_attention("linear", Geometry(num_heads=2, head_dim=4, seq_len=7), eps=1e-6)
    keep, own = torch.ones(2, 3, 7).bool().unbind()
    keep[:, 2], own[1, 4:] = False, False
    weights = {"mask": keep[:, None, None], "key_mask": own}
    inputs = qkv(3, 2, 7, 7, 4, 4)
    call = {"call": lambda q, k, v: linear(q, k, v, key_mask=keep & own)}
    assert_proven(golden_of("linear_elu", linear, inputs, weights, {}, **call), "linear")
    pairs = torch.ones(7, 7).tril()
    golden = golden_of("linear_elu", linear, inputs, {"mask": pairs}, {}, call=linear.double())
    proof = prove(golden, form_of(golden.header))
    assert proof.status is ProofStatus.NOT_COVERED
    assert proof.reason == "linear takes no mask of pairs"


def test_a_mask_that_is_added_to_scores_is_refused():
    softmax = build_attention("softmax", Geometry(num_heads=2, head_dim=4, seq_len=5))
    added = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    golden = golden_of("softmax", softmax, qkv(1, 2, 5, 5, 4, 4), {"mask": added}, {})
    proof = prove(golden, form_of(golden.header))
    assert proof.status is ProofStatus.FAILED
    assert proof.reason == "the golden's mask holds more than 0 and 1, where 1 keeps"
