import torch

from attentions.maths.kernel_attention import divide


def test_the_quotient_of_nothing_is_zero_with_a_finite_gradient():
    numerator = torch.tensor([0.0, 6.0], requires_grad=True)
    normaliser = torch.tensor([0.0, 3.0], requires_grad=True)
    out = divide(numerator, normaliser)
    assert out.tolist() == [0, 2]
    gradients = torch.autograd.grad(out.sum(), (numerator, normaliser))
    assert all(g.isfinite().all() for g in gradients)
