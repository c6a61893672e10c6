import math
from functools import partial

import pytest
import torch

from tests.attentions.calls import built

CPU = torch.device("cpu")


build = partial(built, "softmax_chunked", seq_len=7, value_dim=3)


def test_large_scores_of_either_sign_neither_overflow_nor_vanish():
    core = build(num_heads=1, head_dim=1, seq_len=2, value_dim=1, chunk_size=1)
    k = torch.tensor([[[[1e4], [1e4 + 1]]]])
    v = torch.tensor([[[[1.0], [3.0]]]])
    share = 1 / (1 + math.exp(-1))
    for sign, of_second in ((1, share), (-1, 1 - share)):
        out = core(torch.full((1, 1, 2, 1), float(sign)), k, v)
        assert out.flatten().tolist() == pytest.approx([1 + 2 * of_second] * 2, rel=1e-6)


def test_only_two_numbers_per_query_are_kept_beside_inputs_and_output():
    core = build(num_heads=1, head_dim=8, value_dim=8, seq_len=64, chunk_size=16)
    q, k, v = (torch.randn(1, 1, 64, 8, requires_grad=True) for _ in range(3))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()), lambda x: x):
        core(q, k, v)
    assert sorted(kept) == [64, 64, 512, 512, 512, 512]


def test_the_second_derivative_is_that_of_softmax():
    q, k, v = (torch.randn(1, 2, 7, n, requires_grad=True, dtype=torch.float64) for n in (4, 4, 3))

    def penalty(out):
        (gradient,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), (q, k, v))

    expected = penalty((q @ k.mT / 2).softmax(-1) @ v)
    torch.testing.assert_close(penalty(build()(q, k, v)), expected)
