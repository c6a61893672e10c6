import torch

from attentions.maths.orthogonal import orthogonal_gaussian


def draw(num_features=20, dim=8, *, unit_scale=False, seed=0, number=0):
    return orthogonal_gaussian(num_features, dim, unit_scale=unit_scale, seed=seed, draw=number)


def test_rows_within_a_block_are_orthogonal():
    rows = draw()
    for block in rows.split(8):
        products = block @ block.T
        torch.testing.assert_close(products, products.diagonal().diag())


def test_unit_scale_gives_all_rows_the_length_sqrt_d():
    lengths = draw(unit_scale=True).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 8**0.5))


def test_otherwise_rows_are_as_long_as_gaussian_vectors():
    lengths = draw(4000, 8).norm(dim=-1)
    assert abs(lengths.square().mean() - 8) < 0.2  # E[chi^2] = D
    assert abs(lengths.square().var() - 16) < 2.0  # Var[chi^2] = 2 D


def test_directions_favour_no_side():
    """Half of 2000 blocks have a positive first entry; a bare QR makes all of them negative."""
    rows = draw(2000 * 4, 4).view(2000, 4, 4)
    positive = (rows > 0).double().mean(dim=0)
    assert (positive - 0.5).abs().max() < 0.06


def test_every_seed_and_number_has_its_own_rows_and_always_the_same():
    draws = [draw(seed=s, number=n) for s in (0, 1, 2**40) for n in (0, 1, 2)]
    again = [draw(seed=s, number=n) for s in (0, 1, 2**40) for n in (0, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))
    assert len({tuple(rows[0].tolist()) for rows in draws}) == len(draws)
