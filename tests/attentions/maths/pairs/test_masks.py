import pytest
import torch

from attentions import Attention, attention_class, build_attention
from attentions.maths.pairs.masks import allowed_pairs, hide_keys, near_pairs
from tests.attentions.small import CLAIMS, geometry

PADDED = [
    name
    for name, can in CLAIMS.items()
    if "padding" in can.masks
    and issubclass(attention_class(name), Attention)
    and name != "softmax_flex"
]


@pytest.mark.parametrize("name", PADDED)
def test_hidden_keys_and_values_may_be_anything(name):
    """Memory that nobody wrote, say, and no gradient of what is seen is lost by it."""
    core = build_attention(name, geometry(name))
    q, k, v = torch.randn(3, 2, 2, 16, 8)
    seen = torch.rand(2, 16) < 0.7
    seen[:, 0] = True
    unwritten = ~seen[:, None, :, None]
    expected = core(q, k, v, key_mask=seen)
    k, v = (x.masked_fill(unwritten, torch.nan).requires_grad_() for x in (k, v))
    out = core(q, k=k, v=v, key_mask=seen)
    assert torch.equal(out, expected)
    out.sum().backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in (k, v))


def test_hidden_keys_have_zeros_for_features_even_if_they_were_infinite():
    phi_k = torch.ones(1, 2, 3, 4)
    phi_k[:, :, 1] = torch.inf
    hidden = hide_keys("linear", phi_k, torch.tensor([[True, False, True]]))
    assert hidden[0, 0, :, 0].tolist() == [1, 0, 1]


def test_all_masks_are_taken_together():
    q = k = torch.zeros(1, 1, 3, 2)
    key_mask = torch.tensor([[True, False, True]])
    mask = torch.tensor([[True, True, True], [True, True, True], [False, True, True]])
    settings = {"causal": True, "key_mask": key_mask, "mask": mask}
    allowed = allowed_pairs("softmax", q, k, **settings)
    assert allowed[0, 0].tolist() == [
        [True, False, False],
        [True, False, False],
        [False, False, True],
    ]


def test_a_window_reaches_to_both_sides_over_hidden_keys():
    near = near_pairs(torch.tensor([[True, False, True, True]]), 2)
    assert near.shape == (1, 1, 4, 4)
    assert near[0, 0].long().tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 1]]
