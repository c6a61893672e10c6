"""Finite inputs give finite numbers, however large; and what was right stays as it was."""

import platform

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from attentions import Attention, Geometry, attention_class, attention_names, base, build_attention
from attentions import _in_float64 as in_float64
from attentions import _overflow as overflow
from attentions._engine_tally import Tally

pytestmark = pytest.mark.usefixtures("one_and_two_threads")

CORES = ("linear", "nala", "flatten", "polaformer", "performer", "softmax", "agent", "inline")
CAUSAL = ("linear", "performer", "softmax", "gla", "deltanet", "retnet", "taylor", "sliding_window")
KERNELS = [
    name
    for name in attention_names()
    if attention_class(name).family == "kernel" and not attention_class(name).capabilities.requires
]
LENGTH = 64


def build(name, *, causal=False, num_heads=4, **settings):
    torch.manual_seed(0)
    geometry = Geometry(num_heads=num_heads, head_dim=16, seq_len=LENGTH, causal=causal)
    return build_attention(name, geometry, **settings)


def tensors(dtype=torch.float32, num_heads=4):
    torch.manual_seed(1)
    return [torch.randn(2, num_heads, LENGTH, 16).to(dtype) for _ in range(3)]


def with_large(given, where, size):
    """Queries and keys of this size at some place."""
    changed = [x.clone() for x in given]
    for x in changed[:2]:
        x[where] = x[where].sign() * size
    return changed


ONE_HEAD = (1, 3)
ONE_TOKEN = (slice(None), slice(None), LENGTH - 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("where", [ONE_HEAD, ONE_TOKEN, ...], ids=["head", "token", "all"])
@pytest.mark.parametrize("name", CORES)
def test_outputs_and_gradients_of_finite_inputs_are_finite(name, where, dtype):
    core = build(name).to(dtype)
    for size in (1e12, 1e20, 1e37):
        given = with_large(tensors(dtype), where, size)
        with torch.no_grad():
            assert core(*given).isfinite().all()
        leaves = [x.requires_grad_() for x in given]
        out = core(*leaves)
        assert out.isfinite().all() and out.dtype == dtype
        found = torch.autograd.grad(out.float().sum(), [*leaves, *core.parameters()])
        assert all(g.isfinite().all() for g in found)


@pytest.mark.parametrize("has_gradients", [False, True])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_large_token_does_not_change_the_bits_of_those_before_it(name, has_gradients):
    core, given = build(name, causal=True), tensors()
    large = with_large(given, ONE_TOKEN, 1e25)
    if has_gradients:
        given, large = ([x.requires_grad_() for x in each] for each in (given, large))
    assert torch.equal(core(*given)[:, :, :-1], core(*large)[:, :, :-1])


@pytest.mark.parametrize("name", ["linear", "cosformer", "softmax", "linear_unnormalised"])
def test_what_is_taken_from_float64_is_what_float64_gives(name):
    core, given = build(name), with_large(tensors(), ..., 1e21)
    given[0][..., ::2] *= 0.5  # so that softmax has no ties
    with torch.no_grad():
        out, wide = core(*given), build(name).double()(*(x.double() for x in given))
    largest = torch.finfo(torch.float32).max
    torch.testing.assert_close(out, wide.clamp(-largest, largest).float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("implementation", ["auto", "plain"])
@pytest.mark.parametrize("causal", [False, True])
def test_zeros_are_no_output_of_an_infinite_normaliser(causal, implementation):
    q, k, v = tensors()
    large = (torch.full_like(x, 8.2e17) for x in (q, k))  # 64 weights of 1e37
    with torch.no_grad():
        out = build("linear", causal=causal, implementation=implementation)(*large, v)
    torch.testing.assert_close(out[:, :, -1], v.mean(dim=2), rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_float64():
    core, given = build("linear"), with_large(tensors(), ..., 1e14)
    leaves = [x.requires_grad_() for x in given]
    found = torch.autograd.grad(core(*leaves).sum(), leaves)
    wide = [x.detach().double().requires_grad_() for x in given]
    exact = torch.autograd.grad(build("linear").double()(*wide).sum(), wide)
    for got, right in zip(found, exact, strict=True):
        assert (got - right).abs().max() <= 1e-3 * right.abs().max()


@pytest.mark.parametrize("name", ["linear", "gla"])
def test_gradients_of_gradients_exist(name):
    core, given = build(name, causal=True), with_large(tensors(), ..., 1e13)
    leaves = [x.requires_grad_() for x in given]
    (first,) = torch.autograd.grad(core(*leaves).square().sum(), leaves[2], create_graph=True)
    assert torch.autograd.grad(first.sum(), leaves[2])[0].isfinite().all()


def test_published_operators_are_left_as_they_are():
    given = with_large(tensors(), ..., 1e20)
    with torch.no_grad():
        assert not build("linear", implementation="official")(*given).isfinite().all()


@pytest.mark.parametrize("name", ["flatten_layer", "polaformer_layer", "inline_layer", "mlla"])
def test_a_layer_of_published_operators_is_not_looked_at(name, monkeypatch):
    layer, x = build(name, implementation="official"), torch.randn(2, LENGTH, 64)
    monkeypatch.setattr(base, "made_finite", lambda *_: pytest.fail("looked at"))
    assert layer(x).shape == x.shape


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in overflow._FLAGS,
    reason="this processor's flags are not known",
)
@pytest.mark.parametrize("is_noisy", [False, True])
def test_flags_that_powers_raise_without_need_are_not_believed(is_noisy, monkeypatch):
    size = 1e30 if is_noisy else 1.0
    monkeypatch.setattr(overflow, "power_", lambda x: x.fill_(size).square_())
    overflow._flags.cache_clear()
    try:
        assert (overflow._flags() is None) == is_noisy
    finally:
        overflow._flags.cache_clear()


@pytest.mark.skipif(overflow._flags() is None, reason="this processor's flags are not known")
def test_notes_are_found_out_about_whatever_the_first_caller_does():
    for mode in (FlopCounterMode(display=False), FakeTensorMode(), torch.autocast("cpu")):
        overflow._flags.cache_clear()
        before = torch.get_num_threads()
        with mode:
            assert overflow._flags() is not None
        assert torch.get_num_threads() == before
        if isinstance(mode, FlopCounterMode):
            assert mode.get_total_flops() == 0


@pytest.mark.parametrize("name", ["linear", "softmax", "gla"])
def test_what_is_not_finite_to_begin_with_stays_so_and_costs_one_call(name, monkeypatch):
    core, given = build(name, causal=True), tensors()
    given[2][0, 0, 3, 2] = torch.nan
    monkeypatch.setattr(in_float64, "in_float64", lambda *_: pytest.fail("computed once more"))
    with torch.no_grad():
        out = core(*given)
    assert out[0, 0, 3:].isnan().any()
    assert out[1].isfinite().all()


def test_a_gradient_that_comes_in_infinite_is_handed_on():
    core, leaves = build("linear"), [x.requires_grad_() for x in tensors()]
    out = core(*leaves)
    cotangent = torch.ones_like(out)
    cotangent[0, 0, 0, 0] = torch.inf
    found = torch.autograd.grad(out, leaves, cotangent)
    assert not found[2].isfinite().all()


@pytest.mark.parametrize("name", KERNELS)
def test_ordinary_inputs_are_computed_once(name, monkeypatch):
    again = "computed once more"
    monkeypatch.setattr(in_float64, "in_float64", lambda *_: pytest.fail(again))
    monkeypatch.setattr(in_float64, "corrected", lambda *_: pytest.fail(again))
    try:
        mechanism = build(name)
    except ValueError:
        mechanism = build(name, causal=True)
    is_core = isinstance(mechanism, Attention)
    for size in (1e-6, 1.0, 50.0):
        given = [size * x.requires_grad_() for x in tensors()]
        if not is_core:
            given = [given[0].transpose(1, 2).flatten(2)]
        with torch.no_grad():
            mechanism(*given)
        mechanism(*given).sum().backward()


def test_without_notes_of_the_processor_sums_tell(monkeypatch):
    monkeypatch.setattr(overflow, "_flags", lambda: None)
    assert overflow.is_noted()
    assert not overflow.has_notes()
    for name in CORES:
        given = with_large(tensors(), ONE_HEAD, 1e20)
        with torch.no_grad():
            assert build(name)(*given).isfinite().all()


@pytest.mark.skipif(overflow._flags() is None, reason="this processor's flags are not known")
def test_the_processor_notes_what_is_no_number():
    torch.set_num_threads(1)
    x = torch.full((300,), 1e30)
    aside = overflow.set_aside()
    (x + x).sum()
    assert not overflow.is_noted()
    x * x
    assert overflow.is_noted()
    inner = overflow.set_aside()
    assert not overflow.is_noted()
    overflow.bring_back(inner)
    assert overflow.is_noted()
    overflow.set_aside()
    overflow.bring_back(aside)


def test_a_tally_knows_of_what_is_not_finite_by_notes_or_by_sums():
    large = torch.full((64, 64), 1e30)
    for is_quiet in (False, True):
        for x, is_finite in ((torch.ones(64, 64), True), (large, False)):
            tally = Tally(is_quiet=is_quiet)
            task = tally.of(lambda x, tally=tally: tally.add(x * x))
            assert task(x) is None
            assert tally.is_finite is is_finite
    quiet = Tally(is_quiet=True)
    quiet.add(torch.full((64,), 200.0).exp())
    assert not quiet.is_finite


def test_only_numbers_among_the_inputs_are_looked_at():
    """A plugin may take its tokens by another name, or a mask by position."""
    core, leaves = build("softmax"), [x.requires_grad_() for x in tensors()]
    out = core(*leaves)
    mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
    assert in_float64.made_finite(core, out, (), {"tokens": leaves[0]}) is out
    assert in_float64.made_finite(core, out, (*leaves, mask, None), {}) is out


def test_an_output_of_small_inputs_and_large_weights_is_finite_without_gradients():
    core = build("linformer")
    with torch.no_grad():
        core.proj_k.fill_(1e38)
        assert core(*tensors()).isfinite().all()
