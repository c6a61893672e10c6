import pytest
import torch
from torch import nn

from bench.measure.memory import peak_memory_bytes
from bench.measure.meta import peak_bytes


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

    seen = peak_memory_bytes(calling("cpu"), torch.device("cpu"))
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
