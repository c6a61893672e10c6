"""Gates drawn for timing: sizes asked of the core, values as an untrained layer gives them."""

import pytest
import torch

import attentions
from attentions import Capabilities, Geometry, build_attention, registry
from bench.tasks.gates import Gated
from bench.token_gates import gates_of, sizes_of

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
    return gates_of(core(name, **settings).to(device), dtype=dtype, device=device)


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
        layer = attentions.MultiHeadAttention(core(name))
        torch.manual_seed(0)
        gated = Gated(layer)
    tokens = torch.randn(1, 200, 64, generator=torch.Generator().manual_seed(1))
    tokens = tokens.unflatten(1, (2, 100))[0]
    for at, gate in draw(name).items():
        assert torch.allclose(gate, gated.gates[at](tokens), atol=1e-6)


@every
def test_each_token_has_its_own_and_each_is_a_share_or_the_logarithm_of_one(name):
    for at, gate in draw(name).items():
        share = gate.exp() if at.startswith("log_") else gate
        assert bool(((share > 0) & (share < 1)).all()) and bool((share.std(dim=2) > 0).all())


@every
def test_the_same_seed_gives_the_same_values_and_another_one_others(name):
    torch.manual_seed(1)
    first = draw(name)
    torch.manual_seed(2)
    again, other = draw(name), draw(name, seed=2)
    for at in first:
        assert torch.equal(first[at], again[at]) and not torch.equal(first[at], other[at])


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


def test_nothing_is_drawn_for_a_core_without_gates_and_for_a_layer():
    for name in ("linear", "gla_layer"):
        assert gates(name).names == ()
        assert gates(name).draw(1, 8, seed=0, dtype=torch.float32, device=CPU) == []
    layer = attentions.MultiHeadAttention(core("gla"))
    assert gates_of(layer, dtype=torch.float32, device=CPU).names == ()


@pytest.fixture
def register(monkeypatch):
    registry.attention_names()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    def enter(forward, reference=None, gates=("pace",)):
        body = {"forward": forward, "flops": lambda self, shape: 0, "__module__": __name__}
        if reference is not None:
            body["reference"] = reference
        cls = type("Odd", (attentions.Attention,), body)
        can = Capabilities(causal=True, gates=gates)
        registry.register_attention("odd", title="-", source="-", capabilities=can)(cls)

    return enter


def asked(seq_len=100):
    return sizes_of(core("odd", seq_len), dtype=torch.float32, device=CPU)["pace"]


def test_code_that_needs_values_is_asked_where_it_runs(register):
    def forward(self, q, k, v, *, pace=None):
        if bool((pace != 0).any()):  # which meta tensors cannot say
            raise ValueError("zeros are what is asked with")
        return v * pace.unsqueeze(-1)

    register(forward)
    assert asked() == (4,)


def test_a_kernel_that_meta_tensors_do_not_get_through_is_known_by_its_slow_form(register):
    calls = []

    def forward(self, q, k, v, *, pace=None):
        calls.append(q.device.type)
        raise RuntimeError("cannot be launched here")

    register(forward, lambda self, q, k, v, *, pace=None: v * pace)
    assert asked() == (4, 16) and set(calls) == {"meta"}


def test_a_core_of_one_length_is_asked_at_that_length(register):
    def forward(self, q, k, v, *, pace=None):
        if q.shape[2] != 100:
            raise ValueError("100 tokens are needed")
        return v * pace

    register(forward)
    assert asked() == (4, 16)


def test_gates_that_are_needed_together_are_asked_for_together(register):
    def forward(self, q, k, v, *, pace, share):
        return v * pace * share.unsqueeze(-1)

    register(forward, gates=("pace", "share"))
    core_of = core("odd")
    assert sizes_of(core_of, dtype=torch.float32, device=CPU) == {"pace": (4, 16), "share": (4,)}


def test_an_output_of_another_shape_does_not_count(register):
    register(lambda self, q, k, v, *, pace=None: v.unsqueeze(-1) * pace[..., None, :, None])
    with pytest.raises(ValueError, match=r"odd takes the gate pace neither as \(B, H, N\) nor"):
        asked()


def test_asking_leaves_the_stream_of_random_numbers_where_it_is(register):
    register(lambda self, q, k, v, *, pace=None: v * pace + torch.rand(1))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    asked()
    assert torch.equal(torch.rand(1), expected)
