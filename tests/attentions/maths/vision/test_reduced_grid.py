import pytest
import torch

from attentions.maths.vision.reduced_grid import ReducedGrid, reference_stretch, stretch


def test_a_ratio_of_one_changes_nothing_and_learns_nothing():
    reduced, x = ReducedGrid("x", 4, (2, 3), 1), torch.randn(1, 6, 4)
    assert reduced(x) is x and reduced.reference(x) is x
    assert not list(reduced.parameters())
    assert reduced.flops(6, 4) == 0


@pytest.mark.parametrize(("grid", "ratio"), [((4, 6), 2), ((3, 6), 3), ((8, 4), 4)])
def test_each_key_comes_of_one_patch(grid, ratio):
    reduced = ReducedGrid("x", 4, grid, ratio).double()
    x = torch.randn(2, grid[0] * grid[1], 4, dtype=torch.float64)
    out = reduced(x)
    assert out.shape == (2, x.shape[1] // ratio**2, 4)
    torch.testing.assert_close(out, reduced.reference(x))
    changed = x.clone()
    changed[:, 0] += 1  # the upper left token, in the first patch
    again = reduced(changed)
    assert torch.equal(again[:, 1:], out[:, 1:]) and not torch.equal(again[:, 0], out[:, 0])


def test_stretching_interpolates_between_neighbours():
    v = torch.tensor([0.0, 4.0])[None, :, None]
    expected = [0.0, 1.0, 3.0, 4.0]  # centres at 1/4 and 3/4 of the way, ends held
    assert stretch(v, 4).flatten().tolist() == expected
    assert reference_stretch(v, 4).flatten().tolist() == expected


@pytest.mark.parametrize("num_keys", [1, 3, 7, 12])
def test_stretching_equals_its_reference(num_keys):
    v = torch.randn(2, num_keys, 3, dtype=torch.float64)
    torch.testing.assert_close(stretch(v, 12), reference_stretch(v, 12))
