import copy
import math
from functools import partial

import pytest
import torch

from attentions.mechanisms.polaformer_pp import _above, _expm1_less
from tests.attentions.calls import built

build = partial(built, "polaformer_pp", grid=(2, 3), stir=0.3)


def turned(phi, token, columns):
    """Features of a token, pairs of channels turned by its row and then by its column."""
    out, quarter = phi.clone(), len(phi) // 4
    for pair in range(len(phi) // 2):
        place = token // columns if pair < quarter else token % columns
        angle = place * 10_000 ** -(pair % quarter / max(quarter - 1, 1))
        x0, x1 = phi[2 * pair].item(), phi[2 * pair + 1].item()
        out[2 * pair] = x0 * math.cos(angle) - x1 * math.sin(angle)
        out[2 * pair + 1] = x1 * math.cos(angle) + x0 * math.sin(angle)
    return out


def mixed_by_hand(q, k, v, slope, columns, eps):
    """One head, one half of the values, pair by pair."""
    out = torch.zeros_like(v)
    for i in range(len(q)):
        phi_q, total = (q[i] * slope).exp() - 1, eps
        for j in range(len(k)):
            phi_k = k[j].exp() - 1
            out[i] += turned(phi_q, i, columns) @ turned(phi_k, j, columns) * v[j] / len(k)
            total = total + phi_q @ phi_k / len(k)
        out[i] /= total
    return out


def test_it_is_what_its_authors_compute():
    layer, x = build(), torch.randn(1, 6, 8, dtype=torch.float64)
    q, k, v, gate = layer.qkvg(x).detach().chunk(4, dim=-1)
    heads = []
    for h in range(2):
        one_q, one_k, one_v = (y[0, :, 4 * h : 4 * h + 4] for y in (q, k, v))
        up, down = one_q.clamp(min=0), (-one_q).clamp(min=0)
        keys = torch.cat((one_k.clamp(min=0), (-one_k).clamp(min=0)), dim=-1)
        slopes = [s[h].detach().sigmoid() for s in (layer.s1, layer.s2)]
        like = mixed_by_hand(
            torch.cat((up, down), -1), keys, one_v[:, :2].clone(), slopes[0], 3, layer.eps
        )
        unlike = mixed_by_hand(
            torch.cat((down, up), -1), keys, one_v[:, 2:].clone(), slopes[1], 3, layer.eps
        )
        heads += [like, unlike]
    local = layer.lepe(v.transpose(1, 2).unflatten(-1, (2, 3))).flatten(2).transpose(1, 2)
    expected = layer.proj((torch.cat(heads, dim=-1)[None] + local) * gate)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.reference(x), expected)


def test_exponentials_are_as_they_are_up_to_20_and_safe_for_large():
    small = torch.tensor([0.0, 1e-7, 1e-6, 19.0])
    torch.testing.assert_close(_expm1_less(small, _above(small.max())), small.expm1())
    large = torch.tensor([0.0, 500.0, 1000.0])
    got = _expm1_less(large, _above(large.max()))
    torch.testing.assert_close(got, torch.tensor([0.0, 0.0, math.exp(20)]))
    largest = torch.tensor([0.0, 1.5e38, 3e38])
    assert _expm1_less(largest, _above(largest.max())).tolist() == [0.0, 0.0, 1.0]
    x = torch.rand(9, dtype=torch.float64) * 50
    above = _above(x.max())
    torch.testing.assert_close(_expm1_less(x, above), x.expm1() / above.exp())


def test_taking_out_the_peak_cancels_even_beside_a_large_eps():
    layer, x = build(eps=10.0), torch.randn(2, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))


@pytest.mark.parametrize("size", [100.0, 1000.0])
def test_entries_that_overflow_the_authors_exponentials_stay_finite(size):
    layer = build().float()
    x = (size * torch.randn(1, 6, 8)).requires_grad_()
    out = layer(x)
    assert out.isfinite().all()
    out.sum().backward()
    assert x.grad.isfinite().all()


def test_sums_of_small_features_keep_their_digits_where_others_are_large():
    """The largest feature of a query may meet keys that have none there."""
    layer = build(grid=(4, 4), head_dim=8)
    x = torch.randn(1, 16, 16, dtype=torch.float64)
    x *= 50 / x.norm(dim=-1, keepdim=True)
    x = x.float().double()  # as the narrow layer gets it
    want = layer.reference(x)
    narrow = build(grid=(4, 4), head_dim=8).float()
    double = copy.deepcopy(narrow).double()
    for got in (layer(x), double(x), narrow(x.float()).double()):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * want.abs().max().item())
