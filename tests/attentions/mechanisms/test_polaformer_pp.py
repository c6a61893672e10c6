import copy
from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "polaformer_pp", grid=(2, 3), stir=0.3)


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
