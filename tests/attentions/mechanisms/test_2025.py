"""Recurrences and softmax variants of 2025 against forms that share no code with them.

Outputs, gradients of inputs and of gates, hidden tokens, and decoding; `explicit` has the formulas.
"""

import functools
import math

import pytest
import torch
from torch.nn import functional

from attentions import Geometry, build_attention
from bench.studies.conformance.gates import gates_of
from tests.attentions.mechanisms import explicit

N, D, E = 75, 8, 6
CASES = {
    "kda": ({"normalise_keys": False}, explicit.kda),
    "kda negative": ({"normalise_keys": False, "negative_eigenvalues": True}, explicit.kda),
    "rwkv7": ({}, explicit.rwkv7),
    "gated_deltaproduct": (
        {"num_householder": 3, "normalise_keys": False},
        explicit.gated_deltaproduct,
    ),
    "fox": ({}, explicit.fox),
    "fox window": ({"window": 9}, functools.partial(explicit.fox, window=9)),
    "gated_attention": ({}, functools.partial(explicit.gated_attention, causal=True)),
    "gated_attention headwise": (
        {"headwise": True},
        functools.partial(explicit.gated_attention, causal=True),
    ),
    "differential_v2": ({}, explicit.differential_v2),
    "path": ({}, explicit.path),
    "path gated": ({"forget_gate": True}, explicit.path),
    "deltaformer": ({}, explicit.deltaformer),
}
every = pytest.mark.parametrize("case", CASES)


def called(case, n=N, kv_heads=2):
    """A core and the inputs of a call in float64, keys of unit length."""
    torch.manual_seed(3)
    geometry = Geometry(
        num_heads=2, num_kv_heads=kv_heads, head_dim=D, value_dim=E, seq_len=n, causal=True
    )
    core = build_attention(case.split()[0], geometry, **CASES[case][0]).double()
    sizes = ((2, D), (kv_heads, D), (kv_heads, E))
    q, k, v = (torch.randn(2, heads, n, width, dtype=torch.double) for heads, width in sizes)
    k = functional.normalize(k, dim=-1)
    return core, (q, k, v), gates_of(core, (q, k, v))


@every
def test_outputs_and_gradients_are_those_of_the_formula(case):
    core, tensors, gates = called(case)
    given = [x.requires_grad_() for x in (*tensors, *gates.values())]
    out, expected = core(*tensors, **gates), CASES[case][1](*tensors, **gates)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad(x, given, cotangent) for x in (out, expected))
    torch.testing.assert_close(ours, theirs)


@every
def test_hidden_tokens_are_as_if_removed(case):
    core, tensors, gates = called(case)
    key_mask = torch.rand(1, N) < 0.6
    kept = key_mask[0].nonzero()[:, 0]
    out = core(*tensors, **gates, key_mask=key_mask.expand(2, -1))
    fewer = {name: gate[:, :, kept] for name, gate in gates.items()}
    if case == "fox window":  # it counts places, hidden ones too
        return
    expected = CASES[case][1](*(x[:, :, kept] for x in tensors), **fewer)
    torch.testing.assert_close(out[:, :, kept], expected)


@every
def test_steps_equal_the_formula_however_a_prompt_is_split(case):
    core, tensors, gates = called(case)
    expected = CASES[case][1](*tensors, **gates)
    for split in ((1,) * N, (30, 1, 20, 1, 1, 22), (5, 70)):
        state, outputs = core.init_state(2, dtype=torch.double, device=torch.device("cpu")), []
        for q, k, v, *given in zip(
            *(x.split(split, 2) for x in (*tensors, *gates.values())), strict=True
        ):
            out, state = core.step(q, k, v, state, **dict(zip(gates, given, strict=True)))
            outputs.append(out)
        torch.testing.assert_close(torch.cat(outputs, 2), expected)


@every
def test_gradients_of_steps_are_those_of_the_formula_or_refused(case):
    """Refused by torch where a cache is written in place."""
    core, tensors, gates = called(case, n=20)
    given = [x.requires_grad_() for x in (*tensors, *gates.values())]
    expected, outputs = CASES[case][1](*tensors, **gates), []
    cotangent = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, given, cotangent)
    state = core.init_state(2, dtype=torch.double, device=torch.device("cpu"))
    for q, k, v, *more in zip(*(x.split((9, 4, 7), 2) for x in given), strict=True):
        out, state = core.step(q, k, v, state, **dict(zip(gates, more, strict=True)))
        outputs.append(out)
    try:
        found = torch.autograd.grad(torch.cat(outputs, 2), given, cotangent)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        assert case in ("fox", "gated_attention", "gated_attention headwise", "differential_v2")
        return
    torch.testing.assert_close(found, wanted)


def test_gates_may_be_wider_than_the_tokens():
    for case in CASES:
        core, tensors, gates = called(case, n=70)
        narrow = [x.float() for x in tensors]
        out = core.float()(*narrow, **gates)
        assert out.dtype == torch.float32
        expected = CASES[case][1](*(x.double() for x in narrow), **gates)
        torch.testing.assert_close(out.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("window", [None, 1, 7, 64, 300])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_sinks_and_windows_are_those_of_the_formula(window, kv_heads):
    torch.manual_seed(1)
    geometry = Geometry(
        num_heads=4, num_kv_heads=kv_heads, head_dim=D, value_dim=E, seq_len=N, causal=True
    )
    layer = build_attention("softmax_sinks", geometry, window=window).double()
    core = getattr(layer, "core", layer)
    torch.nn.init.normal_(core.sinks)
    core.tile = 16
    sizes = ((4, D), (kv_heads, D), (kv_heads, E))
    q, k, v = (
        torch.randn(2, heads, N, width, dtype=torch.double, requires_grad=True)
        for heads, width in sizes
    )
    out, expected = layer(q, k, v), explicit.softmax_sinks(q, k, v, core.sinks, window)
    torch.testing.assert_close(out, expected)
    cotangent, given = torch.randn_like(out), (q, k, v, core.sinks)
    ours, theirs = (torch.autograd.grad(x, given, cotangent) for x in (out, expected))
    torch.testing.assert_close(ours, theirs)
    state, outputs = layer.init_state(2, dtype=torch.double, device=torch.device("cpu")), []
    split = (20, 1, 1, 30, 23)
    for parts in zip(*(x.detach().split(split, 2) for x in (q, k, v)), strict=True):
        layer.step(*parts, state)
        again, state = layer.step(*parts, state)  # the same step can be taken again
        outputs.append(again)
    torch.testing.assert_close(torch.cat(outputs, 2), expected)
    assert state.k.shape[2] == min(window or N, N)


def test_a_window_counts_the_query_and_that_of_sliding_window_does_not(qkv):
    q, k, v = qkv(1, 2, 40, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=40, causal=True)
    ours = build_attention("softmax_sinks", geometry, window=9)
    torch.nn.init.constant_(ours.sinks, -torch.inf)
    theirs = build_attention("sliding_window", geometry, window=8)
    torch.testing.assert_close(ours(q, k, v), theirs(q, k, v))


def test_a_sink_far_above_the_scores_takes_all_and_one_of_minus_infinity_nothing(qkv):
    q, k, v = qkv(1, 2, 40, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=40, causal=True)
    core = build_attention("softmax_sinks", geometry)
    torch.nn.init.constant_(core.sinks, 1e4)
    assert torch.equal(core(q, k, v), torch.zeros_like(v))
    torch.nn.init.constant_(core.sinks, -torch.inf)
    exact = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(core(q, k, v), exact)


def test_a_hard_reset_leaves_the_digits_of_what_follows(qkv):
    q, k, v = (x.float() for x in qkv(1, 2, 300, D))
    log_decay = -torch.rand(1, 2, 300)
    log_decay[:, :, [40, 270]] = -torch.inf
    core = build_attention("fox", Geometry(num_heads=2, head_dim=D, seq_len=300, causal=True))
    expected = explicit.fox(*(x.double() for x in (q, k, v)), log_decay.double().clamp(min=-1e4))
    torch.testing.assert_close(
        core(q, k, v, log_decay=log_decay).double(), expected, rtol=1e-4, atol=2e-6
    )


def test_equal_channels_make_kda_gated_deltanet(qkv):
    q, k, v = qkv(1, 2, 130, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=130, causal=True)
    beta, decay = torch.rand(1, 2, 130).double(), -torch.rand(1, 2, 130).double()
    wide = decay[..., None].expand(-1, -1, -1, D)
    out = build_attention("kda", geometry)(q, k, v, beta=beta, log_decay=wide)
    theirs = build_attention("gated_deltanet", geometry)(q, k, v, beta=beta, log_decay=decay)
    torch.testing.assert_close(out, theirs)


def test_one_step_per_token_makes_gated_deltaproduct_gated_deltanet(qkv):
    q, k, v = qkv(1, 2, 130, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=130, causal=True)
    gates = {"beta": torch.rand(1, 2, 130).double(), "log_decay": -torch.rand(1, 2, 130).double()}
    expected = build_attention("gated_deltanet", geometry)(q, k, v, **gates)
    one = build_attention("gated_deltaproduct", geometry, num_householder=1)
    torch.testing.assert_close(one(q, k, v, **gates), expected)
    two = build_attention("gated_deltaproduct", geometry)
    torch.testing.assert_close(two(q, k, v, **gates), expected)  # no more keys, no more steps
    with pytest.raises(
        ValueError, match="more_keys was given; with these hyperparameters it takes"
    ):
        one(q, k, v, more_keys=torch.zeros(1, 2, 130, 1, D).double())


@pytest.mark.parametrize("name", ["deltanet", "gated_deltanet", "kda", "gated_deltaproduct"])
def test_negative_eigenvalues_are_betas_up_to_two(name, qkv):
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=9, causal=True)
    ends = {
        flag: build_attention(name, geometry, negative_eigenvalues=flag).gates["beta"].high
        for flag in (False, True)
    }
    assert ends == {False: 1, True: 2}
    q, k, v = qkv(1, 2, 9, D)
    beta = torch.ones(1, 2, 9).double()
    wide, narrow = (
        build_attention(name, geometry, negative_eigenvalues=flag).double()
        for flag in (True, False)
    )
    torch.testing.assert_close(wide(q, k, v), narrow(q, k, v, beta=beta))  # 2 * sigmoid(0)


@pytest.mark.parametrize("name", ["path", "deltaformer"])
def test_without_turns_or_corrections_it_is_softmax_attention(name, qkv):
    q, k, v = qkv(1, 2, 150, D)
    core = build_attention(name, Geometry(num_heads=2, head_dim=D, seq_len=150, causal=True))
    exact = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    out = core.double()(q, k, v, beta=torch.zeros(1, 2, 150).double())
    torch.testing.assert_close(out, exact)


def per_token(x, k):
    """A value per head, (H, ...), for every token of (B, H, N, D) keys: (B, H, N, ...)."""
    return x[None, :, None].expand(*k.shape[:3], *x.shape[1:])


def unit(k):
    return k * (k.square().sum(-1, keepdim=True) + 1e-6) ** -0.5


LEARNED = {
    "kda": lambda core, k: {
        "beta": per_token(core.beta_logit.sigmoid(), k),
        "log_decay": per_token(-core.log_rate.exp(), k),
    },
    "rwkv7": lambda core, k: {
        "log_decay": per_token(-math.exp(-0.5) * core.decay_logit.sigmoid(), k),
        "removal_key": unit(k),
        "removal_rate": per_token(core.rate_logit.sigmoid(), k),
    },
    "fox": lambda core, k: {"log_decay": per_token(-core.log_rate.exp(), k)},
    "gated_attention": lambda core, k: {"gate": per_token(core.gate_logit.sigmoid(), k)},
    "gated_attention headwise": lambda core, k: {"gate": per_token(core.gate_logit.sigmoid(), k)},
    "differential_v2": lambda core, k: {
        "q_minus": torch.zeros_like(k),
        "gate": per_token(core.gate_logit.sigmoid(), k),
    },
    "path": lambda core, k: {
        "transition_key": unit(k),
        "beta": per_token(2 * core.beta_logit.sigmoid(), k),
    },
    "path gated": lambda core, k: {
        "transition_key": unit(k),
        "beta": per_token(2 * core.beta_logit.sigmoid(), k),
        "log_decay": per_token(-core.log_rate.exp(), k),
    },
    "deltaformer": lambda core, k: {"beta": per_token(core.strength, k)},
}


@pytest.mark.parametrize("case", LEARNED)
def test_learned_values_get_the_gradients_of_the_formula(case):
    core, tensors, _ = called(case)
    for parameter in core.parameters():
        torch.nn.init.normal_(parameter)
    given = [*(x.requires_grad_() for x in tensors), *core.parameters()]
    out = core(*tensors)
    expected = CASES[case][1](*tensors, **LEARNED[case](core, tensors[1]))
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad(x, given, cotangent) for x in (out, expected))
    torch.testing.assert_close(ours, theirs)


def test_learned_steps_of_deltaproduct_get_the_gradients_of_the_formula():
    core, (q, k, v), gates = called("gated_deltaproduct")
    for parameter in core.parameters():
        torch.nn.init.normal_(parameter)
    more = {name: gates[name] for name in ("more_keys", "more_values")}
    betas = per_token(2 * core.beta_logit.sigmoid(), k)
    learned = {
        "beta": betas[..., 0],
        "more_betas": betas[..., 1:],
        "log_decay": per_token(-core.log_rate.exp(), k),
    }
    out, expected = core(q, k, v, **more), explicit.gated_deltaproduct(q, k, v, **learned, **more)
    torch.testing.assert_close(out, expected)
    cotangent, given = torch.randn_like(out), tuple(core.parameters())
    ours, theirs = (torch.autograd.grad(x, given, cotangent) for x in (out, expected))
    torch.testing.assert_close(ours, theirs)


def test_a_state_that_path_was_given_stays_as_it_is(qkv):
    q, k, v = qkv(1, 2, 9, D)
    core = build_attention("path", Geometry(num_heads=2, head_dim=D, seq_len=9, causal=True))
    _, state = core.step(
        *(x[:, :, :5].float() for x in (q, k, v)),
        core.init_state(1, dtype=torch.float32, device=torch.device("cpu")),
    )
    before = state.k.clone()
    core.step(*(x[:, :, 5:].float() for x in (q, k, v)), state)
    assert torch.equal(state.k, before)
