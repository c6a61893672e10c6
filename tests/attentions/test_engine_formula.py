"""Formulas on the engine: as the plain form, and only where features are long."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from attentions import Geometry, _engine_formula, build_attention
from attentions._engine import attention_by_tiles
from attentions.base import Attention, CallShape

MECHANISMS: dict[str, dict[str, Any]] = {
    "dpfp": {"nu": 2},
    "hedgehog": {},
    "hedgehog joint": {"normaliser": "joint", "bias": False},
    "hedgehog tied": {"tie_heads": True, "tie_qk": True},
    "rfa": {"num_features": 5},
    "rfa of lengths": {"normalise": False},
}


def build(name: str, *, causal: bool, length: int, dtype: torch.dtype = torch.float64) -> Attention:
    geometry = Geometry(num_heads=2, head_dim=6, seq_len=length, value_dim=5, causal=causal)
    core = build_attention(name.split()[0], geometry, **MECHANISMS[name])
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return core.to(dtype)


def inputs(length: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(3, 2, length, width, generator=generator, dtype=torch.float64)
        .to(dtype)
        .requires_grad_()
        for width in (6, 6, 5)
    ]


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The engine at any length; how many calls it took."""
    calls: list[int] = []

    def counted(*args: Any, **keywords: Any) -> Tensor:
        calls.append(1)
        return attention_by_tiles(*args, **keywords)

    monkeypatch.setattr(_engine_formula, "_PAYS_ABOVE", 0)
    for name in ("dpfp", "hedgehog", "rfa"):
        monkeypatch.setattr(f"attentions.mechanisms.{name}.attention_by_tiles", counted)
    return calls


def results(core: Attention, given: list[Tensor], parameters: list[Tensor]) -> list[Tensor]:
    out = core(*given)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad((out * weight).sum(), [*given, *parameters])]


@pytest.mark.parametrize("length", [1, 70, 600])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", MECHANISMS)
def test_tiles_give_what_the_plain_form_gives(
    name: str, causal: bool, length: int, tiled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    core, given = build(name, causal=causal, length=length), inputs(length)
    parameters = list(core.parameters())
    found = results(core, given, parameters)
    assert tiled
    monkeypatch.setattr(_engine_formula, "_PAYS_ABOVE", 2**62)
    tiled.clear()
    expected = results(core, given, parameters)
    assert not tiled
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", MECHANISMS)
def test_gradients_of_gradients(name: str, causal: bool, tiled: list[int]) -> None:
    core, given = build(name, causal=causal, length=3), [x[:1] for x in inputs(3)]
    core.requires_grad_(False)
    assert torch.autograd.gradgradcheck(core, given, atol=1e-4)
    assert tiled


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MECHANISMS)
def test_half_inputs_are_computed_wide(name: str, dtype: torch.dtype, tiled: list[int]) -> None:
    core, given = build(name, causal=False, length=40, dtype=dtype), inputs(40, dtype)
    out = core(*given)
    assert tiled
    assert out.dtype == dtype
    exact = core.double()(*(x.double() for x in given))
    allowed = 4 * torch.finfo(dtype).eps if dtype != torch.float32 else 1e-5
    torch.testing.assert_close(out.double(), exact, rtol=allowed, atol=allowed)


def test_a_mask_is_for_the_plain_form(tiled: list[int]) -> None:
    core, (q, k, v) = build("hedgehog", causal=False, length=8), inputs(8)
    kept = torch.ones(3, 8, dtype=torch.bool)
    kept[:, 5:] = False
    masked = core(q, k, v, key_mask=kept)
    assert not tiled
    torch.testing.assert_close(masked, core(q, k[:, :, :5], v[:, :, :5]))


def test_a_gate_is_for_the_plain_form(tiled: list[int]) -> None:
    geometry = Geometry(num_heads=2, head_dim=6, seq_len=8, causal=True)
    q, k, _ = (x.float() for x in inputs(8))
    build_attention("rfa_gated", geometry)(q, k, k)
    assert not tiled


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["dpfp", "hedgehog", "rfa"])
def test_costs_are_those_of_the_form_that_runs(name: str, causal: bool) -> None:
    """At the last length of the plain form, and at the first one of tiles."""
    for length in (2048, 2049):
        geometry = Geometry(num_heads=4, head_dim=64, seq_len=length, causal=causal)
        core = build_attention(name, geometry)
        shape = CallShape(
            batch_size=1,
            num_heads=4,
            query_len=length,
            key_len=length,
            head_dim=64,
            value_dim=64,
            causal=causal,
        )
        q, k, v = torch.randn(3, 1, 4, length, 64)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            core(q, k, v)
        counted = counter.get_total_flops()
        assert counted == pytest.approx(core.executed_flops(shape), rel=0.02)
