"""Gates: chosen by the tokens, in the size and range that each core takes."""

import functools

import pytest
import torch

import attentions
from bench.measuring.tasks.base import build_task
from bench.measuring.tasks.model import auxiliary_loss, build_model

HEAD, FULL = (2, 4, 64), (2, 4, 64, 16)
"""A number, and a channel each, for every token of every head."""
SIZES = {
    "gla": {"log_decay": FULL},
    "simple_gla": {"log_decay": HEAD},
    "mamba2_ssd": {"log_decay": HEAD},
    "deltanet": {"beta": HEAD},
    "gated_deltanet": {"beta": HEAD, "log_decay": HEAD},
    "kda": {"beta": HEAD, "log_decay": FULL},
    "fox": {"log_decay": HEAD},
    "differential_v2": {"q_minus": FULL, "gate": HEAD},
    "deltaformer": {"beta": HEAD},
    "path": {"transition_key": FULL, "beta": HEAD},
    "dsa": {"index_q": (2, 8, 64, 32), "index_k": (2, 1, 64, 32), "index_weight": (2, 8, 64)},
    "nsa": {"gate_compression": HEAD, "gate_selection": HEAD, "gate_window": HEAD},
    "gated_attention": {"gate": FULL},
    "gated_deltaproduct": {
        **{"beta": HEAD, "log_decay": HEAD, "more_betas": (2, 4, 64, 1)},
        **dict.fromkeys(("more_keys", "more_values"), (2, 4, 64, 1, 16)),
    },
    "rwkv7": {"log_decay": FULL, "removal_rate": FULL},
    "gated_deltanet2": {"log_decay": FULL, "erase": FULL, "write": FULL},
    "comba": {"beta": HEAD, "log_decay": HEAD},
    "gsa": {"log_decay": FULL, "slot": FULL},
    "rwkv6": {"log_decay": FULL},
    "mesanet": {"beta": HEAD, "log_decay": HEAD},
    "mamba3": {"log_decay": HEAD, "step": HEAD, "trapezoid": HEAD, "angle": (2, 4, 64, 4)},
    "log_linear": {"log_decay": HEAD, "level_scale": (2, 4, 64, 7)},
}


@functools.cache
def model(mechanism):
    task = build_task("recall", {"causal": True})
    return build_model(task, mechanism, {}, 0)


def projected(gated):
    x = torch.randn(2, 64, 64)
    return gated.gates(x)[0]


def test_every_core_that_takes_gates_is_known_here():
    cores = {
        name
        for name in attentions.attention_names()
        if (can := attentions.attention_class(name).capabilities).gates
        and not can.requires
        and attentions.attention_class(name).__module__.startswith("attentions.")
    }
    assert cores == SIZES.keys()


@pytest.mark.parametrize("mechanism", SIZES)
def test_gates_have_the_size_and_the_range_that_the_core_takes(mechanism):
    for block in model(mechanism).blocks:
        gates = projected(block.mixer)
        assert {name: gate.shape for name, gate in gates.items()} == SIZES[mechanism]
        for name, gate in gates.items():
            declared = block.mixer.core.gates[name]
            assert ((gate > declared.low) & (gate < declared.high)).all()
            assert (gate.std(dim=2) > 0).all()  # each token has its own


@pytest.mark.parametrize("mechanism", SIZES)
def test_the_data_decide_and_every_weight_of_a_gate_learns(mechanism):
    net = model(mechanism)
    places = torch.arange(64).expand(2, -1)
    loss = net(torch.randint(1, 64, (2, 64)), places).square().sum()
    extra = auxiliary_loss(net)
    (loss if extra is None else loss + extra).backward()
    for block in net.blocks:
        for weight in filter(lambda x: x.requires_grad, block.mixer.gates.parameters()):
            assert weight.grad is not None and weight.grad.any()


@pytest.mark.parametrize("mechanism", ["gla", "dsa", "gated_deltaproduct"])
def test_a_gate_of_a_later_token_changes_nothing_earlier(mechanism):
    net, places = model(mechanism), torch.arange(64).unsqueeze(0)
    tokens = torch.randint(1, 63, (1, 64))
    before = net(tokens, places)
    tokens[0, 40] += 1
    after = net(tokens, places)
    torch.testing.assert_close(after[:, :40], before[:, :40], rtol=1e-4, atol=1e-5)
    assert not torch.equal(after[:, 40], before[:, 40])


@pytest.mark.parametrize("mechanism", SIZES)
def test_all_other_weights_start_as_around_any_core(mechanism):
    expected = model("linear").state_dict()
    found = model(mechanism).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_auxiliary_loss_trains_the_maps_of_gates_and_nothing_else():
    task = build_task("recall", {"causal": True})
    net = build_model(task, "dsa", {"top_k": 8}, 0)
    net.eval()(torch.randint(1, 64, (2, 64)), torch.arange(64).expand(2, -1))
    assert auxiliary_loss(net) is None
    net.train()(torch.randint(1, 64, (2, 64)), torch.arange(64).expand(2, -1))
    auxiliary_loss(net).backward()
    assert auxiliary_loss(net) is None
    trained = {name for name, p in net.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in net.named_parameters() if ".mixer.gates." in name}
