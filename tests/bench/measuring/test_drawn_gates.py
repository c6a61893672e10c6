"""Gates drawn for timing: shapes as the core declares them, values as an untrained layer's."""

import math

import pytest
import torch

import attentions
from attentions import Gate, Geometry, build_attention
from attentions.maths.recurrences.projected import ProjectedGate, ProjectedGates
from bench.measuring.drawn_gates import gates_of

CPU, META = torch.device("cpu"), torch.device("meta")
SIZES = {
    "gla": {"log_decay": (4, 16)},
    "simple_gla": {"log_decay": (4,)},
    "mamba2_ssd": {"log_decay": (4,)},
    "deltanet": {"beta": (4,)},
    "gated_deltanet": {"beta": (4,), "log_decay": (4,)},
}
every = pytest.mark.parametrize("name", SIZES)


def core(name, seq_len=100, **heads):
    geometry = Geometry(num_heads=4, head_dim=16, seq_len=seq_len, causal=True, **heads)
    return build_attention(name, geometry)


def gates(name, device=CPU, dtype=torch.float32, **settings):
    return gates_of(core(name, **settings).to(device, dtype))


def draw(name, seed=1, dtype=torch.float32, **settings):
    of = gates(name, **settings)
    return dict(zip(of.names, of.draw(2, 100, seed=seed, dtype=dtype, device=CPU), strict=True))


@every
@pytest.mark.parametrize("device", [CPU, META], ids=str)
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_a_core_says_what_a_token_has_of_each_gate_wherever_it_is(name, device, num_kv_heads):
    assert gates(name, device, num_kv_heads=num_kv_heads).sizes == SIZES[name]


@pytest.mark.parametrize("name", ["gla", "simple_gla"])
def test_the_temperature_of_a_core_slows_its_decay_also_where_heads_are_shared(name):
    own, shared = (draw(name, num_kv_heads=heads)["log_decay"] for heads in (4, 1))
    assert torch.equal(own, shared) and float(own.mean()) == pytest.approx(-0.7 / 16, rel=0.3)


@every
def test_values_are_those_of_the_maps_that_training_begins_with(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = core(name)
        torch.manual_seed(0)
        maps = ProjectedGates(built, 64)
    tokens = torch.randn(1, 200, 64, generator=torch.Generator().manual_seed(1))
    tokens = tokens.unflatten(1, (2, 100))[0]
    for at, gate in draw(name).items():
        assert torch.allclose(gate, maps[at](tokens), atol=1e-6)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_new_values_lie_where_the_old_ones_lay_with_the_pace_of_each_head(name, dtype):
    of, drawn = gates(name, dtype=dtype), draw(name, dtype=dtype)
    for at, gate in drawn.items():
        gate = gate.contiguous()
        place, before = gate.data_ptr(), gate.clone()
        of.renew(at, gate, 0)
        seen = gate.clone()
        of.renew(at, gate, 1)
        assert gate.data_ptr() == place and gate.dtype == dtype
        for other in (before, seen):
            assert float((gate != other).double().mean()) > 0.9
        pace, usual = (x.double().mean(dim=(0, 2)) for x in (gate, before))
        assert torch.allclose(pace, usual, rtol=0.3)
        of.renew(at, gate, 4099)
        assert torch.equal(gate, seen)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-1, 1), (0.5, 2), (2, math.inf), (-math.inf, -3)]
)
def test_a_gate_fills_its_range_and_does_not_leave_it(low, high):
    gate = Gate("bhn", low=low, high=high)
    of = ProjectedGate(gate, 8, (4,), rank=4, temperature=1.0, bias=True)
    with torch.no_grad():
        values = of(30 * torch.randn(1, 400, 8, generator=torch.Generator().manual_seed(0)))
    assert low <= values.min() and values.max() <= high
    assert low == -math.inf or values.min() < low + 0.05
    assert high == math.inf or values.max() > high - 0.05


def test_nothing_is_drawn_for_a_core_without_gates_and_for_a_layer():
    for name in ("linear", "gla_layer"):
        assert gates(name).names == ()
        assert gates(name).draw(1, 8, seed=0, dtype=torch.float32, device=CPU) == []
    layer = attentions.MultiHeadAttention(core("gla"))
    assert gates_of(layer).names == ()
