import pytest
import torch
from torch.nn import functional

from bench.costs.multiply_adds import count_multiply_adds

Q = torch.randn(2, 3, 5, 4)
K = torch.randn(2, 3, 7, 4)
V = torch.randn(2, 3, 7, 6)
HEADS = 2 * 3


def counted(call):
    with torch.no_grad():
        return count_multiply_adds(call)


@pytest.mark.parametrize(
    ("call", "multiply_adds"),
    [
        (lambda: Q[0, 0] @ K[0, 0].T, 5 * 7 * 4),
        (lambda: Q @ K.transpose(-2, -1), HEADS * 5 * 7 * 4),
        (lambda: Q[0, 0] @ K[0, 0, 0], 5 * 4),
        (lambda: Q[0, 0, 0] @ K[0, 0, 0], 4),
        (lambda: torch.einsum("bhnd,bhmd->bhnm", Q, K), HEADS * 5 * 7 * 4),
        (lambda: torch.baddbmm(Q[0, :, :, :1], Q[0], K[0].transpose(1, 2)), 3 * 5 * 7 * 4),
        (lambda: functional.linear(Q, torch.ones(9, 4), torch.ones(9)), HEADS * 5 * 4 * 9),
    ],
)
def test_a_product_takes_one_for_each_pair_of_entries_that_meet(call, multiply_adds):
    assert counted(call).products == multiply_adds


def test_a_convolution_takes_one_for_each_tap_its_padding_included():
    image, kernel = torch.randn(1, 6, 3, 4), torch.randn(6, 1, 5, 5)
    grouped = counted(lambda: functional.conv2d(image, kernel, padding=2, groups=6))
    assert grouped.products == 6 * 12 * 25
    line = counted(lambda: functional.conv1d(torch.randn(2, 4, 9), torch.randn(8, 4, 3), stride=2))
    assert line.products == 2 * 8 * 4 * 4 * 3


def test_padding_is_zeros_and_those_can_be_left_out():
    image, kernel = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    seen = counted(lambda: functional.conv2d(image, kernel, padding=1))
    assert seen.products == 81
    assert seen.nonzero == 4 * 4 + 4 * 6 + 9  # corners, edges, centre


def test_a_fused_kernel_takes_scores_and_values_for_each_pair_that_its_mask_allows():
    whole = counted(lambda: functional.scaled_dot_product_attention(Q, K, V))
    assert whole.products == HEADS * 5 * 7 * (4 + 6) and not whole.has_masked_kernel
    causal = counted(lambda: functional.scaled_dot_product_attention(Q, Q, Q, is_causal=True))
    assert causal.products == HEADS * 15 * (4 + 4) and causal.has_masked_kernel


@pytest.mark.parametrize(("shown", "hidden"), [(True, False), (0.5, -torch.inf)])
def test_a_pair_that_a_dense_mask_hides_from_a_fused_kernel_takes_none(shown, hidden):
    mask = torch.full((5, 7), shown)
    mask[:, 4:] = hidden
    seen = counted(lambda: functional.scaled_dot_product_attention(Q, K, -K, attn_mask=mask))
    assert seen.has_masked_kernel
    assert seen.products == seen.nonzero == HEADS * 5 * 4 * (4 + 4)


def test_channels_of_zeros_in_a_fused_kernel_can_be_left_out():
    wide = functional.pad(V, (0, 2))
    seen = counted(lambda: functional.scaled_dot_product_attention(K, K, wide))
    assert seen.products == HEADS * 49 * (4 + 8)
    assert seen.nonzero == HEADS * 49 * (4 + 6)


def test_weights_of_zero_can_be_left_out():
    scores = Q @ Q.transpose(-2, -1)
    seen = counted(lambda: scores.tril() @ Q)
    assert seen.products == HEADS * 25 * 4
    assert seen.nonzero == HEADS * 15 * 4


def test_a_multiplication_that_is_summed_is_a_product_written_out():
    assert counted(lambda: (Q * Q.roll(1)).sum(dim=-1)).written_out == Q.numel()
    assert counted(lambda: (Q * Q.roll(1)).cumsum(dim=-2)).written_out == Q.numel()


def test_a_look_at_whether_a_gated_output_is_finite_is_no_product():
    out, gate = torch.randn(1, 3, 4, 5), torch.randn(1, 3, 4, 5)
    assert count_multiply_adds(lambda: (out * gate).sum()).written_out == 0
    assert count_multiply_adds(lambda: (out * gate).sum(dim=-1)).written_out == out.numel()


def test_an_outer_product_that_is_added_to_a_state_is_one_too():
    state = torch.zeros(2, 3, 4, 6)
    k, v = K[:, :, 0, :, None], V[:, :, 0, None, :]
    assert counted(lambda: state + k * v).written_out == state.numel()
    assert counted(lambda: state.add(k * v)).products == 0


def test_scaling_gating_and_norms_are_no_products():
    gate = torch.rand(2, 3, 5, 1)
    seen = counted(lambda: (2.0 * Q * gate + 1, (Q * Q).sum(dim=-1), Q.norm(dim=-1)))
    assert (seen.products, seen.written_out, seen.opaque) == (0, 0, ())


def test_operators_whose_products_nobody_sees_are_named():
    assert counted(lambda: torch.fft.rfft(Q)).opaque == ("_fft_r2c",)
    assert "linalg_inv_ex" in counted(lambda: torch.linalg.inv(torch.eye(3))).opaque
    assert counted(lambda: Q.softmax(dim=-1)).opaque == ()


def test_a_backward_pass_of_a_product_is_two_of_its_size():
    q, k = Q.clone().requires_grad_(), K.clone().requires_grad_()
    both = count_multiply_adds(
        lambda: torch.autograd.grad((q @ k.transpose(-2, -1)).sum(), [q, k])
    ).products
    assert both == 3 * HEADS * 5 * 7 * 4
