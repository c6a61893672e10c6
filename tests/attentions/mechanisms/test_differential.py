"""Differential attention: its weights, of which goldens have no gradients, norm and refusals."""

from functools import partial

import pytest
import torch

from attentions import Geometry, build_attention
from tests.attentions.calls import built
from tests.attentions.mechanisms import explicit

LAMBDAS = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")


build = partial(built, "differential", True, head_dim=8, seq_len=40, value_dim=6)


def share_by_hand(core):
    q1, k1, q2, k2 = (getattr(core, name) for name in LAMBDAS)
    return torch.exp(torch.dot(q1, k1)) - torch.exp(torch.dot(q2, k2)) + core.lambda_init


@pytest.mark.parametrize("norm", [True, False])
def test_gradients_of_all_weights_are_those_of_the_formula(norm, qkv):
    core = build(norm=norm, lambda_init=0.55)
    for parameter in core.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    core.tile = 16
    q, k, v = (x.requires_grad_() for x in qkv(2, 2, 40, 8, value_dim=6))
    weight = core.norm.weight if norm else None
    expected = explicit.differential(q, k, v, share_by_hand(core), 0.55, weight)
    out, given = core(q, k, v), (q, k, v, *core.parameters())
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)
    assert len(given) == 7 + norm
    cotangent = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad(x, given, cotangent) for x in (out, expected))
    torch.testing.assert_close(ours, theirs)


def test_a_second_query_that_is_not_given_subtracts_the_mean(qkv):
    q, k, v = qkv(1, 2, 9, 8)
    core = build_attention("differential_v2", Geometry(num_heads=2, head_dim=8, seq_len=9)).double()
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(core(q, k, v), exact - v.mean(2, keepdim=True) / 2)
