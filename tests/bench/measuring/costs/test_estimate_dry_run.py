import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.measuring.costs.estimate import peak_bytes
from bench.measuring.device import device_named


def layers(device):
    with torch.device(device):
        return nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)), torch.randn(4, 8)


@pytest.mark.parametrize("has_backward", [False, True])
def test_meta_tensors_show_the_peak_that_the_allocator_sees(has_backward):
    def calling(device):
        module, x = layers(device)

        def call():
            with torch.set_grad_enabled(has_backward):
                out = module(x)
                if has_backward:
                    weights = list(module.parameters())
                    return torch.autograd.grad(out, weights, torch.empty_like(out))
                return out

        return call

    seen = device_named("cpu").profile(calling("cpu")).peak_bytes
    assert seen > 0
    # The allocator rounds small tensors up to its alignment.
    assert peak_bytes(calling("meta")) == pytest.approx(seen, rel=0.1)


def test_what_was_let_go_of_is_not_counted_again():
    x = torch.empty(1000, device="meta")

    def call():
        y = x
        for _ in range(5):
            y = y + 1

    assert peak_bytes(call) == 2 * x.nbytes


def test_views_and_results_in_place_take_nothing():
    x = torch.empty(10, 10, device="meta")
    assert peak_bytes(lambda: x.t().add_(1)) == 0


@pytest.mark.parametrize("mask", [None, torch.zeros(64, 64), torch.ones(64, 64) > 0])
def test_fused_attention_is_one_operator_and_not_all_pairs(mask):
    shape = (1, 8, 64, 8)
    q, k, v = (torch.empty(shape, device="meta", requires_grad=True) for _ in range(3))
    mask = None if mask is None else mask.to("meta")

    def call():
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return torch.autograd.grad(out, [q, k, v], torch.empty_like(out))

    pairs = 8 * 64 * 64 * 4
    assert peak_bytes(call) < pairs
    with sdpa_kernel([SDPBackend.MATH]):
        assert peak_bytes(call) > 2 * pairs


def test_fused_attention_of_other_widths_is_all_pairs_as_on_a_cpu():
    q, v = torch.empty(1, 8, 64, 8, device="meta"), torch.empty(1, 8, 64, 4, device="meta")
    call = lambda: functional.scaled_dot_product_attention(q, q, v)  # noqa: E731
    assert peak_bytes(call) > 8 * 64 * 64 * 4
