import pytest
import torch

from attentions.maths.kernel_attention import (
    CHUNK,
    causal_kernel_attention,
    divide,
    weight_sums,
    weighted_values,
)


def features(*lengths):
    return [torch.rand(2, 3, n, 5, dtype=torch.float64) for n in lengths]


def test_keys_and_values_meeting_first_changes_nothing():
    phi_q, phi_k, v = features(6, 9, 9)
    weights = phi_q @ phi_k.transpose(-2, -1)
    torch.testing.assert_close(weighted_values(phi_q, phi_k, v), weights @ v)
    torch.testing.assert_close(weight_sums(phi_q, phi_k), weights.sum(-1, keepdim=True))


@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_chunks_change_nothing(length):
    phi_q, phi_k, v = features(length, length, length)
    weights = (phi_q @ phi_k.transpose(-2, -1)).tril()
    expected = weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)
    out, state = causal_kernel_attention(phi_q, phi_k, v, 1e-6)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(state.context, phi_k.transpose(-2, -1) @ v)
    torch.testing.assert_close(state.key_sum, phi_k.sum(dim=2))


def test_a_state_continues_where_it_was_left():
    phi_q, phi_k, v = features(200, 200, 200)
    whole, end = causal_kernel_attention(phi_q, phi_k, v, 1e-6)
    _, state = causal_kernel_attention(*(x[:, :, :77] for x in (phi_q, phi_k, v)), 1e-6)
    rest, state = causal_kernel_attention(*(x[:, :, 77:] for x in (phi_q, phi_k, v)), 1e-6, state)
    torch.testing.assert_close(rest, whole[:, :, 77:])
    torch.testing.assert_close(state, end)


def test_the_quotient_of_nothing_is_zero_with_a_finite_gradient():
    numerator = torch.tensor([0.0, 6.0], requires_grad=True)
    normaliser = torch.tensor([0.0, 3.0], requires_grad=True)
    out = divide(numerator, normaliser)
    assert out.tolist() == [0, 2]
    gradients = torch.autograd.grad(out.sum(), (numerator, normaliser))
    assert all(g.isfinite().all() for g in gradients)
