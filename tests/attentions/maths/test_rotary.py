import cmath
import itertools

import pytest
import torch

from attentions.maths.rotary import reference_rotate, rotate, turn_pairs, turns


def test_turning_is_that_of_sines_and_cosines():
    phi = torch.randn(2, 3, 20, 24, dtype=torch.float64)  # three blocks of 8 channels
    expected = reference_rotate(phi, (4, 5), 8)
    torch.testing.assert_close(rotate(phi, (4, 5), 8), expected)
    channels_first = phi.mT.contiguous().mT
    torch.testing.assert_close(rotate(channels_first, (4, 5), 8), expected)


def test_angles_of_far_places_are_exact_in_float32():
    turn = turns((4096, 1), 4, torch.float32, torch.device("cpu"))[4095, 0]
    assert abs(turn.real.item() - torch.tensor(4095.0, dtype=torch.float64).cos().item()) < 1e-7


def test_a_grid_first_met_under_inference_mode_can_be_trained_on_later():
    grid = (3, 17)  # of no other test: its table has to be made here
    with torch.inference_mode():
        expected = rotate(torch.ones(1, 1, 51, 8), grid, 8).clone()
    phi = torch.ones(1, 1, 51, 8, requires_grad=True)
    out = rotate(phi, grid, 8)
    assert torch.equal(out, expected)
    out.square().sum().backward()
    torch.testing.assert_close(phi.grad, 2 * torch.ones_like(phi))  # lengths are kept


def test_scores_of_turned_heads_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 1, 16, dtype=torch.float64).expand(-1, -1, 40, -1)
    place = torch.arange(40)
    scores = turn_pairs(q, place) @ turn_pairs(k, place).mT
    for lag in (-7, 0, 3):
        along = scores.diagonal(lag, dim1=-2, dim2=-1)
        torch.testing.assert_close(along, along[..., :1].expand_as(along))
    assert not torch.allclose(scores[..., 0, 0], scores[..., 0, 1])


def test_turning_is_a_rotation_by_the_papers_angles():
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    turned = turn_pairs(x, torch.arange(5))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    for token, pair in itertools.product(range(5), range(3)):
        turn = cmath.exp(1j * token * 1e4 ** (-pair / 3))
        expected = complex(*x[0, token, 2 * pair : 2 * pair + 2]) * turn
        assert complex(*turned[0, token, 2 * pair : 2 * pair + 2]) == pytest.approx(expected)
