"""`step` gives finite numbers for finite tokens, however large; ordinary ones cost no state."""

import pytest
import torch

from attentions import Attention, Geometry, attention_class, attention_names, build_attention
from attentions._step_in_float64 import WideState

pytestmark = pytest.mark.usefixtures("one_and_two_threads")

LENGTH, CPU = 24, torch.device("cpu")
RECURRENT = [
    name
    for name in attention_names()
    if attention_class(name).capabilities.recurrent
    and not attention_class(name).capabilities.requires
]
# Norms that overflow come out as zeros, sines of 1e37 depend on the last bit, and a score of -inf
# is taken for a hidden key: finite, as `forward`, and not precise.
ROUGH = ("deltanet", "gated_deltanet", "mla", "rfa", "rfa_gated", "sliding_window", "softmax")
PRECISE = [name for name in RECURRENT if not name.startswith(ROUGH)]


def build(name, num_kv_heads=4):
    torch.manual_seed(0)
    geometry = Geometry(
        num_heads=4, head_dim=16, seq_len=LENGTH, causal=True, num_kv_heads=num_kv_heads
    )
    return build_attention(name, geometry)


def tokens(core, size=1.0, dtype=torch.float32):
    torch.manual_seed(1)
    heads = core.geometry.num_kv_heads
    shapes = [(2, h, LENGTH, 16) for h in (4, heads, heads)]
    if not isinstance(core, Attention):
        shapes = [(2, LENGTH, 64)]
    largest = torch.finfo(dtype).max
    drawn = (torch.randn(shape, dtype=torch.float64) * size for shape in shapes)
    return [x.clamp(-largest, largest).to(dtype) for x in drawn]


def walk(core, given, state=None, cuts=(5, 1, 1, 8, 1, 1, 7)):
    """All outputs, and the state after each part."""
    if state is None:
        state = core.init_state(2, dtype=given[0].dtype, device=CPU)
    outputs, states = [], []
    for parts in zip(*(x.split(cuts, dim=-2) for x in given), strict=True):
        out, state = core.step(*parts, state)
        outputs.append(out)
        states.append(state)
    return torch.cat(outputs, dim=-2), states


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", RECURRENT)
def test_outputs_of_finite_tokens_are_finite(name, dtype):
    core = build(name).to(dtype)
    for size in (1e13, 1e19, 1e25, 1e37, 3e38):
        with torch.no_grad():
            out, _ = walk(core, tokens(core, size, dtype))
        assert out.isfinite().all() and out.dtype == dtype


@pytest.mark.parametrize("num_kv_heads", [4, 2])
@pytest.mark.parametrize("name", PRECISE)
def test_outputs_are_those_of_float64(name, num_kv_heads):
    core = build(name, num_kv_heads)
    exact, largest = build(name, num_kv_heads).double(), torch.finfo(torch.float32).max
    for size in (1e13, 1e25, 3e38):
        given = tokens(core, size)
        with torch.no_grad():
            out, _ = walk(core, given)
            right = exact(*(x.double() for x in given)).clamp(-largest, largest)
        error = (out - right).abs().amax(dim=-1) / right.abs().amax(dim=-1).clamp_min(1e-30)
        assert error.max() < 1e-2


@pytest.mark.parametrize("name", RECURRENT)
def test_ordinary_tokens_leave_the_mechanisms_own_state(name):
    core = build(name)
    _, states = walk(core, tokens(core))
    own = core.init_state(2, dtype=torch.float32, device=CPU)
    assert {type(state) for state in states} == {type(own)}


@pytest.mark.parametrize("name", ["gla", "linear", "lightning", "retnet", "taylor"])
def test_sums_that_left_float32_are_kept_in_float64_and_come_back(name):
    """Once the large token is subtracted again, what is left is a number of float32."""
    core = build(name)
    given = tokens(core)
    large = [x.clone() for x in given]
    for x in large[1:]:
        x[:, :, 5] *= 1e25
    _, states = walk(core, large, cuts=(5, 1, 18))
    assert not isinstance(states[0], WideState)
    assert isinstance(states[1], WideState)
    zeros = [torch.zeros_like(x[:, :, :1]) for x in given]
    flat = states[1].state if isinstance(states[1].state, tuple) else (states[1].state,)
    small = [x * 1e-60 for x in flat]
    shrunk = type(states[1].state)(*small) if len(flat) > 1 else small[0]
    _, after = core.step(*zeros, WideState(shrunk))
    assert not isinstance(after, WideState)


def test_a_query_that_overflows_leaves_the_state_as_it_is():
    core = build("linear_unnormalised")
    given = tokens(core)
    large = [given[0] * 3e37, given[1] * 1e3, given[2]]
    out, states = walk(core, large)
    assert out.isfinite().all() and out.abs().max() > 1e38
    assert not any(isinstance(state, WideState) for state in states)
    small = [given[0], *large[1:]]
    torch.testing.assert_close(walk(core, small)[1][-1], states[-1], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", ["linear", "gla", "softmax", "performer"])
def test_the_same_step_can_be_taken_again(name):
    core = build(name)
    given = tokens(core, 1e25)
    _, states = walk(core, given)
    again = [x[:, :, :1] for x in given]
    state = states[2]
    first, _ = core.step(*again, state)
    assert torch.equal(first, core.step(*again, state)[0])


@pytest.mark.parametrize("name", ["linear", "gla", "softmax"])
def test_what_is_no_number_stays_so(name):
    core = build(name)
    given = tokens(core)
    given[1][:, :, 3] = float("nan")
    out, _ = walk(core, given)
    assert out[:, :, 5:].isnan().all()


def test_a_wide_state_of_another_batch_is_refused_by_name():
    core = build("linear")
    given = tokens(core, 1e25)
    _, states = walk(core, given)
    assert isinstance(states[-1], WideState)
    three = [x[:1, :, :1].repeat(3, 1, 1, 1) for x in given]
    with pytest.raises(ValueError, match=r"state\.context is torch\.float64 of shape \(2, "):
        core.step(*three, states[-1])


def test_gradients_go_through_a_state_in_float64():
    core = build("gla")
    given = [x.requires_grad_() for x in tokens(core, 1e25)]
    out, states = walk(core, given)
    assert any(isinstance(state, WideState) for state in states)
    wide = [x.detach().double().requires_grad_() for x in given]
    exact = build("gla").double()(*wide)
    grad_out = torch.full_like(out, 1e-30)
    found = torch.autograd.grad(out, given, grad_out)
    right = torch.autograd.grad(exact, wide, grad_out.double())
    for got, expected in zip(found, right, strict=True):
        assert (got - expected).abs().max() <= 1e-3 * expected.abs().max()
