import math
from functools import partial

import pytest
import torch

from attentions.maths.rotary import turns
from tests.attentions.calls import built

build = partial(built, "mlla", grid=(2, 3))


def turned(phi, token, columns):
    """All channels of a token, pairs turned by its row and then by its column."""
    out, quarter = phi.clone(), len(phi) // 4
    for pair in range(len(phi) // 2):
        place = token // columns if pair < quarter else token % columns
        angle = place / 10_000 ** (pair % quarter / quarter)
        x0, x1 = phi[2 * pair].item(), phi[2 * pair + 1].item()
        out[2 * pair] = x0 * math.cos(angle) - x1 * math.sin(angle)
        out[2 * pair + 1] = x0 * math.sin(angle) + x1 * math.cos(angle)
    return out


def by_hand(layer, x, eps=1e-6):
    """One sample, pair by pair; channels are turned before heads are taken."""
    columns = layer.geometry.grid[1]
    phi = torch.nn.functional.elu(layer.qk(x).detach()) + 1
    phi_q, phi_k = phi[:, :8], phi[:, 8:]
    turned_q, turned_k = (
        torch.stack([turned(row, i, columns) for i, row in enumerate(p)]) for p in (phi_q, phi_k)
    )
    out = torch.zeros_like(x)
    for h in (slice(0, 4), slice(4, 8)):
        for i in range(len(x)):
            total = eps
            for j in range(len(x)):
                out[i, h] += turned_q[i, h] @ turned_k[j, h] * x[j, h] / len(x)
                total += float(phi_q[i, h] @ phi_k[j, h]) / len(x)
            out[i, h] /= total
    image = x.T.reshape(1, 8, *layer.geometry.grid)
    return out + layer.lepe(image).detach()[0].flatten(1).T


@pytest.mark.parametrize("grid", [(2, 3), (1, 5), (4, 1)])
def test_it_is_what_its_authors_compute(grid):
    layer = build(grid=grid)
    x = torch.randn(2, grid[0] * grid[1], 8, dtype=torch.float64)
    expected = torch.stack([by_hand(layer, sample) for sample in x])
    torch.testing.assert_close(layer(x).detach(), expected)
    torch.testing.assert_close(layer.reference(x).detach(), expected)


def test_frequencies_stop_short_of_the_slowest():
    table = turns((2, 1), 8, torch.float64, torch.device("cpu"), with_last=False)
    angles = table[1].angle().tolist()
    assert angles == pytest.approx([1.0, 0.01, 0.0, 0.0])
    assert table.dtype == torch.complex128


def test_eps_is_added_to_the_mean_weight():
    layer, x = build(eps=2.0), torch.randn(1, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0].detach(), by_hand(layer, x[0], 2.0))


def test_the_projection_can_do_without_a_bias():
    assert build(qk_bias=False).qk.bias is None


def test_pairs_of_channels_may_lie_in_two_heads():
    layer = build(num_heads=4, head_dim=3)
    x = torch.randn(2, 6, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))
