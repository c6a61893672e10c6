"""Layers of float16 tokens hold what they cannot say, and others keep their own modules."""

import copy

import pytest
import torch
from torch import nn

from attentions import Geometry, build_layer
from attentions._float16_layers import is_narrow, project_within_range

LARGEST = torch.finfo(torch.float16).max
CAUSAL = ("gla_layer", "gated_deltanet_layer", "mamba2_ssd_layer")
LAYERS = [
    ("nala_layer", {}),
    ("nala_vanilla", {}),
    ("polaformer_layer", {}),
    ("polaformer_layer", {"sr_ratio": 2}),
    ("agent_layer", {"num_agents": 4}),
    ("flatten_layer", {}),
    ("flatten_layer", {"sr_ratio": 2}),
    ("gla_layer", {}),
    ("gated_deltanet_layer", {}),
    ("mamba2_ssd_layer", {}),
    ("mla", {}),
    ("linear", {}),
]


def build(name, settings):
    """Weights as after some training."""
    torch.manual_seed(0)
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=16, causal=name in CAUSAL)
    layer = build_layer(name, geometry, **settings)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer.half()


def results(layer, x):
    """The output, then the gradients of tokens and learned values."""
    x = x.clone().requires_grad_()
    out = layer(x)
    torch.manual_seed(1)
    cotangent = torch.randn(out.shape, dtype=torch.float64).to(out.dtype)
    learned = list(layer.parameters())
    found = torch.autograd.grad(out, [x, *learned], cotangent, allow_unused=True)
    return [out, *(g for g in found if g is not None)]


def tokens(magnitude):
    torch.manual_seed(2)
    return (torch.randn(2, 16, 16).sign() * magnitude).half()


@pytest.mark.parametrize(("name", "settings"), LAYERS)
@pytest.mark.parametrize("magnitude", [100, 1e3, 1e4, LARGEST])
def test_float16_layers_are_finite_up_to_the_largest_number(name, settings, magnitude):
    one_entry = torch.zeros(2, 16, 16).half()
    one_entry[:, -1, 0] = magnitude
    for x in (tokens(magnitude), one_entry, torch.full_like(one_entry, magnitude)):
        for result in results(build(name, settings), x):
            assert result.dtype == torch.float16
            assert result.isfinite().all()


@pytest.mark.parametrize(("name", "settings"), LAYERS)
def test_a_float16_layer_gives_what_its_rounded_weights_give_in_float64(name, settings):
    layer, x = build(name, settings), tokens(1.0)
    wide = results(copy.deepcopy(layer).double(), x.double())
    for got, exact in zip(results(layer, x), wide, strict=True):
        error = (got.double() - exact).abs().max() / exact.abs().max()
        assert error < 5e-3


@pytest.mark.parametrize("name", ["nala_layer", "polaformer_layer", "linear"])
def test_a_layer_of_another_dtype_calls_its_own_modules(name):
    layer = build(name, {}).bfloat16()
    called = []
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda module, given, out: called.append(out.dtype))
    layer(tokens(1.0).bfloat16())
    assert len(called) == sum(isinstance(module, nn.Linear) for module in layer.modules())
    assert set(called) == {torch.bfloat16}


def test_only_float16_on_a_processor_is_computed_in_float32():
    x = torch.zeros(1, dtype=torch.float16)
    assert is_narrow(x)
    assert not is_narrow(x.bfloat16())
    assert not is_narrow(x.float())
    assert not is_narrow(x.to("meta"))


def test_a_linear_that_somebody_put_there_is_called():
    class Adapted(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    x, layer = tokens(1.0), Adapted(16, 4).half()
    assert torch.equal(project_within_range(x, layer), layer(x))


class Wrapped(torch.nn.Module):
    """As adapters wrap a projection: it has no weight of its own."""

    def __init__(self, module):
        super().__init__()
        self.inner = module

    def forward(self, x):
        return self.inner(x)


def test_a_layers_own_modules_may_be_replaced_by_others():
    layer = build_layer("nala_layer", Geometry(num_heads=2, head_dim=8, seq_len=16))
    x = torch.randn(2, 16, 16)
    expected = layer(x)
    for name in ("qkvg", "lepe", "norm", "proj"):
        setattr(layer, name, Wrapped(getattr(layer, name)))
    assert torch.equal(layer(x), expected)
