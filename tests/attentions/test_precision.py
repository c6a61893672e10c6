import copy

import pytest
import torch

from attentions import Geometry, build_attention, build_layer
from attentions.precision import wide_dtype, widen, within_range
from attentions.testing.forms import build as built
from attentions.testing.forms import gates_of, inputs
from tests.attentions.claims import FORMS, GENERATED, is_ours


def test_half_becomes_float32_and_the_rest_stays_itself():
    for dtype in (torch.float16, torch.bfloat16):
        assert widen(torch.ones(2, dtype=dtype)).dtype == wide_dtype(dtype) == torch.float32
    for dtype in (torch.float32, torch.float64):
        x = torch.ones(2, dtype=dtype)
        assert widen(x) is x
        assert wide_dtype(dtype) == dtype


def test_a_gradient_too_large_for_float16_stops_at_the_largest_value():
    x = torch.ones(3, dtype=torch.float16, requires_grad=True)
    (widen(x) * torch.tensor([1e6, -1e6, 2.0])).sum().backward()
    assert x.grad.tolist() == [65504.0, -65504.0, 2.0]


def test_a_gradient_that_is_not_a_number_is_not_hidden():
    x = torch.ones(1, dtype=torch.float16, requires_grad=True)
    (widen(x) * torch.nan).sum().backward()
    assert x.grad.isnan().all()


def test_what_float16_cannot_hold_becomes_its_largest_number():
    x = torch.tensor([7e4, -1e30, 2.0, torch.nan])
    out = within_range(x, torch.float16)
    assert out[:3].tolist() == [65504.0, -65504.0, 2.0]
    assert out[3].isnan()
    assert within_range(x, torch.bfloat16)[1].item() == x[1].bfloat16().item()


LAYERS = [
    ("nala_layer", {}),
    ("nala_vanilla", {}),
    ("polaformer_layer", {"sr_ratio": 2}),
    ("agent_layer", {"num_agents": 4}),
    ("flatten_layer", {"sr_ratio": 2}),
    ("linformer_layer", {}),
    ("inline_layer", {}),
    ("gla_layer", {}),
    ("gated_deltanet_layer", {}),
    ("mamba2_ssd_layer", {}),
    ("mla", {}),
]


def float16_layer(name, settings):
    """Weights as after some training."""
    torch.manual_seed(0)
    causal = name in ("gla_layer", "gated_deltanet_layer", "mamba2_ssd_layer")
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=16, causal=causal)
    layer = build_layer(name, geometry, **settings)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer.half()


def results(layer, x):
    """The output, then the gradients of tokens and learned values."""
    x = x.clone().requires_grad_()
    out = layer(x)
    learned = [p for p in layer.parameters() if p.requires_grad]
    cotangent = torch.linspace(-1, 1, out.numel()).view_as(out).to(out.dtype)
    found = torch.autograd.grad(out, [x, *learned], cotangent, allow_unused=True)
    return [out, *(g for g in found if g is not None)]


@pytest.mark.parametrize(("name", "settings"), LAYERS)
def test_a_float16_layer_gives_what_its_rounded_weights_give_in_float64(name, settings):
    layer, x = float16_layer(name, settings), torch.randn(2, 16, 16).sign().half()
    wide = results(copy.deepcopy(layer).double(), x.double())
    for got, exact in zip(results(layer, x), wide, strict=True):
        error = (got.double() - exact).abs().max() / exact.abs().max()
        assert error < 1e-2


@pytest.mark.parametrize(("name", "settings"), LAYERS)
def test_a_float16_layer_is_finite_for_tokens_of_norm_100(name, settings):
    layer = float16_layer(name, settings)
    for result in results(layer, 25 * torch.randn(2, 16, 16).sign().half()):
        assert result.dtype == torch.float16
        assert result.isfinite().all()


CORES = [
    form
    for form in FORMS
    if form.is_core
    if is_ours(form) and not form.is_published and form.name not in GENERATED
]
BY_TORCH = ("softmax", "block_sparse")
"""Calls of torch's kernels alone, which autocast rounds as it rounds those of any model."""
SPLITS = (slice(0, 15), slice(15, 16), slice(16, 24))
"""A prompt, a token, and a few tokens."""


def called(form, dtype):
    """A core, its inputs, and its gates, all of one dtype."""
    core = built(form, seq_len=24, dtype=dtype)
    tensors = inputs(core, dtype=dtype)
    return core, tensors, {name: x.to(dtype) for name, x in gates_of(core, tensors).items()}


def outputs_of(core, tensors, gates, dtype):
    """Outputs of one call, and of steps."""
    outputs = [core(*tensors, **gates)]
    if core.geometry.causal and core.capabilities.recurrent:
        state = core.init_state(len(tensors[0]), dtype=dtype, device=torch.device("cpu"))
        for some in SPLITS:
            given = {name: x[:, :, some] for name, x in gates.items()}
            out, state = core.step(*(x[:, :, some] for x in tensors), state, **given)
            outputs.append(out)
    return outputs


@pytest.mark.parametrize("form", CORES, ids=lambda form: form.id)
@torch.no_grad()
def test_half_outputs_are_those_of_float32_rounded_once(form):
    core, tensors, gates = called(form, torch.bfloat16)
    wide = [x.float() for x in tensors]
    expected = outputs_of(
        copy.deepcopy(core).float(), wide, {n: x.float() for n, x in gates.items()}, torch.float32
    )
    for half, whole in zip(outputs_of(core, tensors, gates, torch.bfloat16), expected, strict=True):
        rounding = torch.finfo(torch.bfloat16).eps / 2
        tolerance = {"rtol": 1.05 * rounding, "atol": 1e-6 * float(whole.abs().max())}
        torch.testing.assert_close(half.float(), whole, **tolerance)


@pytest.mark.parametrize(
    "form", [form for form in CORES if form.name not in BY_TORCH], ids=lambda form: form.id
)
@torch.no_grad()
def test_under_autocast_a_core_computes_as_it_does_without(form):
    core, tensors, gates = called(form, torch.float32)
    expected = outputs_of(core, tensors, gates, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs_of(core, tensors, gates, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


RECOMPUTED = {
    "softmax_chunked": {},
    "sigmoid": {},
    "fox": {},
    "topk": {"k": 4},
    "moba": {"block_size": 32, "top_k": 2},
}
"""Cores whose backward pass computes weights again, by tiles, by keys and by blocks."""


@pytest.mark.parametrize("name", RECOMPUTED)
def test_gradients_that_are_taken_under_autocast_are_those_without(name):
    sizes = {"num_heads": 2, "head_dim": 8, "seq_len": 520}  # long enough for blocks to meet
    core = build_attention(name, Geometry(causal=True, **sizes), **RECOMPUTED[name])
    tensors = torch.randn(3, 1, 2, 520, 8).unbind()
    given = [x.requires_grad_() for x in tensors]
    expected = torch.autograd.grad(core(*given).square().sum(), given)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(core(*given).square().sum(), given)
    assert all(map(torch.equal, found, expected))
