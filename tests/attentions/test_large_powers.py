"""PolaFormer from exponents: the same function, of entries whose powers are no numbers."""

import pytest
import torch

from attentions import Geometry, build_attention
from attentions._in_float64 import is_finite
from attentions.mechanisms import polaformer


def build(dtype=torch.float32, **settings):
    """Powers between 2 and 4.6, and scales away from where they start."""
    torch.manual_seed(0)
    core = build_attention("polaformer", Geometry(num_heads=2, head_dim=8, seq_len=12), **settings)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(torch.randn_like(parameter).clamp(-1, 2))
    return core.to(dtype)


def tensors(magnitude=1.0, dtype=torch.float32):
    torch.manual_seed(1)
    q, k, v = torch.randn(3, 2, 2, 12, 8, dtype=torch.float64)
    return [x.to(dtype).requires_grad_() for x in (magnitude * q, magnitude * k, v)]


def gradients(core, out, given):
    torch.manual_seed(2)
    cotangent = torch.randn(out.shape, dtype=torch.float64).to(out.dtype)
    return torch.autograd.grad(out, [*given, *core.parameters()], cotangent)


def close(found, expected, error):
    for got, exact in zip(found, expected, strict=True):
        assert (got.double() - exact.double()).abs().max() <= error * exact.double().abs().max()


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 30.0])
def test_exponents_give_what_powers_give(magnitude, is_masked, monkeypatch):
    core, given = build(torch.float64), tensors(magnitude, torch.float64)
    with torch.no_grad():
        given[0][..., 3, :] = given[1][..., 5, :] = 0.0
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, 7:] = mask[1, :] = False  # the second sample sees nothing
    masks = {"key_mask": mask} if is_masked else {}
    expected = core(*given, **masks)
    expected_gradients = gradients(core, expected, given)
    monkeypatch.setattr(polaformer, "is_finite", lambda out: False)
    found = core(*given, **masks)
    close([found, *gradients(core, found, given)], [expected, *expected_gradients], 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("magnitude", [1e4, 6e4, 1e6, 1e9])
@pytest.mark.parametrize("implementation", ["auto", "plain"])
def test_entries_of_which_no_power_is_a_number_still_mix_values(dtype, magnitude, implementation):
    if magnitude > torch.finfo(dtype).max:
        return
    core = build(dtype, implementation=implementation)
    given = tensors(dtype=dtype)
    with torch.no_grad():
        for x in given[:2]:
            x.copy_(x.sign() * magnitude)
    out = core(*given)
    wide = [x.detach().double().requires_grad_() for x in given]
    exact_core = build(torch.float64)
    exact_core.load_state_dict({name: x.double() for name, x in core.state_dict().items()})
    exact = exact_core(*wide)
    error = 1e-3 if dtype == torch.float32 else 3e-2
    found, expected = gradients(core, out, given), gradients(exact_core, exact, wide)
    close([out, *found[2:]], [exact, *expected[2:]], error)
    assert all(x.isfinite().all() for x in found)


def test_ordinary_entries_are_never_computed_again(monkeypatch):
    core = build()
    monkeypatch.setattr(core, "_by_exponents", lambda *given: pytest.fail("computed again"))
    core(*tensors(1e-3))
    core(*tensors())
    core(*tensors(50.0))


def test_what_is_no_number_is_found_anywhere():
    x = torch.ones(3, 5)
    assert is_finite(x)
    assert is_finite(torch.full((300, 300), 100.0, dtype=torch.float16))  # the sum is none of them
    for value in (torch.nan, torch.inf, -torch.inf):
        y = x.clone()
        y[1, 2] = value
        assert not is_finite(y)
