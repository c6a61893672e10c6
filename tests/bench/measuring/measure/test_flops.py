from unittest.mock import Mock

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from attentions import Geometry, build_attention
from bench.measuring.measure.flops import count, count_with_fvcore

Q = torch.randn(2, 4, 64, 16)
DENSE = 4 * 2 * 4 * 64 * 64 * 16


class Explicit(torch.nn.Module):
    def forward(self, q, k, v):
        return (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v


class Fused(torch.nn.Module):
    def forward(self, q, k, v):
        return scaled_dot_product_attention(q, k, v)


def test_fused_attention_on_a_cpu_is_not_free():
    assert count(lambda: Fused()(Q, Q, Q)).counted_flops == DENSE


def test_the_backward_pass_of_fused_attention_is_two_and_a_half_times_the_forward_pass():
    q = Q.clone().requires_grad_()
    both = count(lambda: torch.autograd.grad(Fused()(q, q, q).sum(), q)).counted_flops
    assert both == DENSE + DENSE * 5 // 2


@pytest.mark.parametrize("compiled", [False, True])
def test_flex_attention_counts_all_pairs_uncompiled_and_where_it_compiles_itself(compiled):
    geometry = Geometry(num_heads=4, head_dim=16, seq_len=64, causal=True)
    core = build_attention("softmax_flex", geometry, compiled=compiled)
    with torch.compiler.set_stance("force_eager"):  # spares the test a generated kernel
        core(Q, Q, Q)
    assert count(lambda: core(Q, Q, Q)).counted_flops == DENSE


def test_explicit_attention_agrees_with_the_formula_and_with_fvcore_once_doubled():
    assert count(lambda: Explicit()(Q, Q, Q)).counted_flops == DENSE
    assert count_with_fvcore(Explicit(), (Q, Q, Q)).flops == DENSE


def test_what_fvcore_did_not_count_is_listed():
    seen = count_with_fvcore(Fused(), (Q, Q, Q))
    assert seen.flops == 0
    assert seen.unsupported == {"aten::scaled_dot_product_attention": 1}


def test_a_module_that_cannot_be_traced_gives_none_and_says_so():
    class Broken(torch.nn.Module):
        def forward(self, q):
            raise RuntimeError("no")

    seen = count_with_fvcore(Broken(), (Q,))
    assert seen.flops is None and "not traced: RuntimeError" in seen.unsupported
    Broken.forward = Mock(side_effect=torch.OutOfMemoryError("full"))
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        count_with_fvcore(Broken(), (Q,))


def test_elementwise_work_is_a_number_of_its_own():
    counts = count(lambda: (Q.exp() + 1) @ Q.transpose(-2, -1))
    assert counts.elementwise_elements == 2 * Q.numel()
    assert counts.counted_flops == DENSE // 2
    assert counts.num_operators == 3
    # An allocation writes nothing, and both tensors of a sort are written.
    counts = count(lambda: (torch.empty_like(Q), Q.sort()))
    assert (counts.elementwise_elements, counts.num_operators) == (2 * Q.numel(), 1)


def test_a_solve_is_elimination_and_two_triangular_systems_for_each_right_side():
    a = torch.randn(3, 5, 12, 12)
    for columns in (1, 4):
        right = torch.randn(3, 5, 12, columns)
        counts = count(lambda right=right: torch.linalg.solve(a, right))
        assert counts.counted_flops == 15 * (2 * 12**3 // 3 + columns * 2 * 12**2)
