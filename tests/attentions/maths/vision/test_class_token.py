import pytest
import torch

from attentions import Geometry
from attentions.maths.vision.class_token import add_on_grid, grid_beside, reference_add_on_grid


def geometry(seq_len, grid=(0, 0)):
    return Geometry(num_heads=1, head_dim=4, seq_len=seq_len, grid=grid)


def test_without_a_class_token_the_grid_is_the_geometrys():
    assert grid_beside("x", geometry(12, (2, 6)), class_token=False) == (2, 6)


@pytest.mark.parametrize(("seq_len", "side"), [(2, 1), (26, 5), (197, 14)])
def test_with_one_the_others_fill_a_square(seq_len, side):
    assert grid_beside("x", geometry(seq_len), class_token=True) == (side, side)


@pytest.mark.parametrize("beside", [0, 1])
def test_only_tokens_on_the_grid_are_added_to(beside):
    x, local = torch.randn(2, 4 + beside, 3), torch.randn(2, 4, 3)
    out = add_on_grid(x, local)
    assert torch.equal(out[:, :beside], x[:, :beside])
    assert torch.equal(out[:, beside:], x[:, beside:] + local)
    assert torch.equal(out, reference_add_on_grid(x, local))
