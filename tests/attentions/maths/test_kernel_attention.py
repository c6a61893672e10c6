import torch

from attentions.maths.kernel_attention import divide, weight_sums, weighted_values


def features(*lengths):
    return [torch.rand(2, 3, n, 5, dtype=torch.float64) for n in lengths]


def test_keys_and_values_meeting_first_changes_nothing():
    phi_q, phi_k, v = features(6, 9, 9)
    weights = phi_q @ phi_k.transpose(-2, -1)
    torch.testing.assert_close(weighted_values(phi_q, phi_k, v), weights @ v)
    torch.testing.assert_close(weight_sums(phi_q, phi_k), weights.sum(-1, keepdim=True))


def test_the_quotient_of_nothing_is_zero_with_a_finite_gradient():
    numerator = torch.tensor([0.0, 6.0], requires_grad=True)
    normaliser = torch.tensor([0.0, 3.0], requires_grad=True)
    out = divide(numerator, normaliser)
    assert out.tolist() == [0, 2]
    gradients = torch.autograd.grad(out.sum(), (numerator, normaliser))
    assert all(g.isfinite().all() for g in gradients)
