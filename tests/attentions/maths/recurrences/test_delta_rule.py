import pytest
import torch

from attentions.maths.recurrences.delta_rule import unit_length, unit_triangular_inverse


def test_directions_of_short_vectors_have_bounded_gradients():
    x = torch.tensor([[0.0, 0.0], [1e-30, 0.0], [3e-3, 4e-3], [30.0, 40.0]], requires_grad=True)
    unit = unit_length(x)
    (gradient,) = torch.autograd.grad(unit.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() <= 1001
    assert unit.norm(dim=-1).tolist() == pytest.approx([0, 0, 0.98, 1], abs=1e-3)


def below_diagonal(size):
    return torch.randn(2, 3, size, size, dtype=torch.float64).tril(-1) / size**0.5


@pytest.mark.parametrize("size", [1, 2, 4, 8, 64])
def test_it_is_the_inverse_of_one_plus_what_lies_below(size):
    below = below_diagonal(size)
    identity = torch.eye(size, dtype=torch.float64).expand_as(below)
    inverse = unit_triangular_inverse(below)
    torch.testing.assert_close((identity + below) @ inverse, identity)
    assert inverse.triu(1).eq(0).all()
    assert inverse.diagonal(dim1=-2, dim2=-1).eq(1).all()


def test_its_gradients_are_right_twice():
    below = below_diagonal(8)[:1, :1].requires_grad_()
    assert torch.autograd.gradcheck(unit_triangular_inverse, below)
    assert torch.autograd.gradgradcheck(unit_triangular_inverse, below)


def test_a_matrix_as_large_as_its_inverse_may_be_loses_no_digits():
    """All ones below: the same key again and again, each value replacing the one before."""
    below = torch.ones(64, 64).tril(-1)
    expected = torch.eye(64) - torch.eye(64).roll(-1, dims=1).tril(-1)
    torch.testing.assert_close(unit_triangular_inverse(below), expected)
