"""Learned tensors begin, before any training, where their docstrings say."""

import math

import pytest
import torch

from attentions import Geometry, build_attention

H, D, E, N = 3, 4, 6, 5


def build(name, **settings):
    geometry = Geometry(num_heads=H, head_dim=D, value_dim=E, seq_len=N, causal=True)
    return build_attention(name, geometry, **settings)


def between(low, high, count=H):
    """Numbers in the middle of equal steps on a logarithmic scale, least first."""
    steps = [(i + 0.5) / count for i in range(count)]
    return torch.tensor([low * (high / low) ** step for step in steps])


def of_heads(value, *widths):
    return torch.full((H, *widths), float(value))


SLOW_FIRST = -between(1e-3, 1.6)
HALF_LOGIT = math.log(0.5)
GATES = {
    "comba": {"beta": of_heads(0.5), "log_decay": SLOW_FIRST},
    "deltaformer": {"beta": of_heads(0.5)},
    "deltanet": {"beta": of_heads(0.5)},
    "differential_v2": {"q_minus": of_heads(0, D), "gate": of_heads(0.5)},
    "fox": {"log_decay": -between(1 / 1024, 1 / 2)},
    "gated_attention": {"gate": of_heads(0.5, E)},
    "gated_deltanet": {"beta": of_heads(0.5), "log_decay": SLOW_FIRST},
    "gated_deltanet2": {
        "log_decay": SLOW_FIRST[:, None].expand(H, D),
        "erase": of_heads(0.5, D),
        "write": of_heads(0.5, E),
    },
    "gated_deltaproduct": {  # betas reach 2 unless said otherwise
        "beta": of_heads(1),
        "log_decay": SLOW_FIRST,
        "more_keys": of_heads(0, 1, D),
        "more_values": of_heads(0, 1, E),
        "more_betas": of_heads(1, 1),
    },
    "gla": {"log_decay": of_heads(HALF_LOGIT / 16, D)},
    "gsa": {
        "log_decay": -between(1e-3, 1.6, D).expand(H, D),
        "slot": 1 - (-between(1e-3, 1.6, D)).exp().expand(H, D),
    },
    "kda": {"beta": of_heads(0.5), "log_decay": SLOW_FIRST[:, None].expand(H, D)},
    "log_linear": {"log_decay": SLOW_FIRST, "level_scale": of_heads(1, 4)},
    "mamba2_ssd": {"log_decay": SLOW_FIRST},
    "mamba3": {
        "log_decay": SLOW_FIRST,
        "step": between(1e-3, 1e-1),
        "trapezoid": of_heads(0.5),
        "angle": of_heads(0, 1),
    },
    "mesanet": {"beta": of_heads(0.5), "log_decay": SLOW_FIRST},
    "nsa": dict.fromkeys(("gate_compression", "gate_selection", "gate_window"), of_heads(0.5)),
    "path": {"beta": of_heads(1)},
    "rwkv6": {"log_decay": -between(1e-3, 1.6, D).expand(H, D)},
    "rwkv7": {
        "log_decay": of_heads(-math.exp(-0.5) / 2, D),
        "removal_rate": of_heads(0.5, D),
    },
    "simple_gla": {"log_decay": of_heads(HALF_LOGIT / 16)},
}


@pytest.mark.parametrize("name", GATES)
def test_gates_begin_where_they_are_said_to(name):
    found = build(name).learned_gates(torch.randn(2, H, N, D))
    for gate, expected in GATES[name].items():
        torch.testing.assert_close(found[gate].detach(), expected, rtol=1e-5, atol=1e-7)


def unit(k):
    return k * (k.square().sum(-1, keepdim=True) + 1e-6) ** -0.5


@pytest.mark.parametrize(
    ("name", "gate", "share"),
    [
        ("comba", "removal_key", 1 / (1 + math.exp(-1))),
        ("path", "transition_key", 1.0),
        ("rwkv7", "removal_key", 1.0),
    ],
)
def test_a_second_key_begins_as_the_first_one(name, gate, share):
    k = torch.randn(2, H, N, D)
    found = build(name).learned_gates(k)[gate]
    torch.testing.assert_close(found.detach(), share * unit(k))


WEIGHTS = {
    "differential": {"norm.weight": torch.ones(E)},
    "flatten": {"scale": torch.zeros(H * D)},
    "mamba3": {"q_bias": of_heads(1, D), "k_bias": of_heads(1, D), "skip": of_heads(1)},
    "mesanet": {"ridge": of_heads(1, D)},
    "rfa": {"sigma": of_heads(1, D)},
    "rwkv6": {"bonus": of_heads(1, D)},
    "softmax_sinks": {"sinks": of_heads(0)},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_begin_where_they_are_said_to(name):
    causal = name != "flatten"
    geometry = Geometry(num_heads=H, head_dim=D, value_dim=E, seq_len=N, causal=causal)
    found = dict(build_attention(name, geometry).named_parameters())
    for weight, expected in WEIGHTS[name].items():
        assert torch.equal(found[weight].detach(), expected)


def test_the_vectors_of_differential_begin_with_a_spread_of_a_tenth():
    torch.manual_seed(0)
    core = build_attention("differential", Geometry(num_heads=1, head_dim=8000, seq_len=2))
    for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
        assert getattr(core, name).std().item() == pytest.approx(0.1, rel=0.1)
