"""Recurrences, and softmax variants with gates, against forms that share no code with them.

Outputs, gradients of inputs, gates and weights, hidden tokens, decoding. `explicit` and
`explicit_states` have the formulas.
"""

import functools
import math

import pytest
import torch
from torch.nn import functional

from attentions import Geometry, build_attention
from attentions.testing.forms import gates_of
from tests.attentions.calls import in_steps
from tests.attentions.mechanisms import explicit, explicit_states

N, D, E = 70, 8, 6
CPU = torch.device("cpu")
PLAIN = {"normalise_keys": False}
CG = {"solver": "cg", "iterations": 7, "normalise_queries": False} | PLAIN
MESANET = explicit_states.mesanet
GATED = functools.partial(explicit.gated_attention, causal=True)
FADED = functools.partial(
    explicit_states.by_head, (1 - 2.0 ** -torch.tensor([5, 6], dtype=torch.double)).log()
)
SLOPED = functools.partial(
    explicit_states.by_head, -(2.0 ** -torch.tensor([4, 8], dtype=torch.double)), scale=1
)
DELTA = functools.partial(explicit_states.gated_deltanet, normalised=False)
CASES = {
    "linear_unnormalised": ({}, explicit_states.decayed),
    "retnet": ({}, FADED),
    "retnet scale": ({"scale": 0.5}, functools.partial(FADED, scale=0.5)),
    "lightning": ({}, SLOPED),
    "gla": ({}, explicit_states.decayed),
    "simple_gla": ({}, explicit_states.decayed),
    "mamba2_ssd": ({}, functools.partial(explicit_states.decayed, scale=1)),
    "deltanet": ({}, explicit_states.gated_deltanet),
    "deltanet plain": (PLAIN | {"negative_eigenvalues": True}, DELTA),
    "gated_deltanet": ({}, explicit_states.gated_deltanet),
    "gated_deltanet2": (PLAIN, explicit_states.gated_deltanet2),
    "gated_deltanet2 negative": (
        PLAIN | {"negative_eigenvalues": True},
        explicit_states.gated_deltanet2,
    ),
    "kda": (PLAIN, explicit.kda),
    "kda negative": (PLAIN | {"negative_eigenvalues": True}, explicit.kda),
    "comba": (PLAIN, explicit_states.comba),
    "gated_deltaproduct": (PLAIN | {"num_householder": 3}, explicit.gated_deltaproduct),
    "rwkv6": ({}, explicit_states.rwkv6),
    "rwkv7": ({}, explicit.rwkv7),
    "gsa": ({"num_slots": 5}, explicit_states.gsa),
    "mesanet": (PLAIN | {"normalise_queries": False}, MESANET),
    "mesanet cg": (CG, functools.partial(MESANET, steps=7)),
    "mamba3": ({"num_angles": 3}, explicit_states.mamba3),
    "mamba3 without angles": ({"num_angles": 0}, explicit_states.mamba3),
    "log_linear": ({}, explicit_states.log_linear),
    "log_linear more levels": ({"num_levels": 9}, explicit_states.log_linear),
    "fox": ({}, explicit.fox),
    "fox window": ({"window": 9}, functools.partial(explicit.fox, window=9)),
    "gated_attention": ({}, GATED),
    "gated_attention headwise": ({"headwise": True}, GATED),
    "differential_v2": ({}, explicit.differential_v2),
    "path": ({}, explicit.path),
    "path gated": ({"forget_gate": True}, explicit.path),
    "deltaformer": ({}, explicit.deltaformer),
}
WEIGHTS = {
    "rwkv6": ("bonus",),
    "mesanet": ("ridge",),
    "mamba3": ("q_bias", "k_bias", "skip"),
}
VARIANTS = [case for case in CASES if " " in case]
"""Settings that are no defaults: conformance splits prompts, and hides keys, with defaults."""


def called(case, n=N):
    """A core, the float64 inputs of a call, with keys of unit length, and the formula."""
    torch.manual_seed(3)
    name, (settings, form) = case.split()[0], CASES[case]
    geometry = Geometry(num_heads=2, head_dim=D, value_dim=E, seq_len=n, causal=True)
    core = build_attention(name, geometry, **settings).double()
    weights = {at: getattr(core, at) for at in WEIGHTS.get(name, ())}
    for weight in weights.values():
        torch.nn.init.uniform_(weight, 0.2, 1.5)
    q, k, v = (torch.randn(2, 2, n, width, dtype=torch.double) for width in (D, D, E))
    k = functional.normalize(k, dim=-1)
    return core, (q, k, v), gates_of(core, (q, k, v)), functools.partial(form, **weights)


def require_equal(out, expected, given):
    """Outputs, and gradients of what is given."""
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    ours, theirs = (
        torch.autograd.grad(x, given, cotangent, allow_unused=True, materialize_grads=True)
        for x in (out, expected)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("n", [N, 1])
@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_those_of_the_formula(case, n):
    core, tensors, gates, form = called(case, n)
    weights = [x for x in form.keywords.values() if isinstance(x, torch.Tensor)]
    inputs = [x.requires_grad_() for x in (*tensors, *gates.values())]
    expected = form(*tensors, **gates)
    require_equal(core(*tensors, **gates), expected, inputs + weights)
    slow = core.reference(*tensors, **gates)
    assert slow is None or torch.allclose(slow, expected, atol=1e-7)


@pytest.mark.parametrize("case", [case for case in CASES if case != "fox window"])
def test_hidden_tokens_are_as_if_removed_in_outputs_and_gradients(case):
    core, tensors, gates, form = called(case, 20)  # a window would count places, hidden ones too
    key_mask = torch.rand(1, 20) < 0.6
    kept = key_mask[0].nonzero()[:, 0]
    inputs = [x.requires_grad_() for x in (*tensors, *gates.values())]
    seen = core(*tensors, **gates, key_mask=key_mask.expand(2, -1))[:, :, kept]
    fewer = {name: gate[:, :, kept] for name, gate in gates.items()}
    require_equal(seen, form(*(x[:, :, kept] for x in tensors), **fewer), inputs)


@pytest.mark.parametrize("case", VARIANTS)
def test_steps_equal_the_formula_however_a_prompt_is_split(case):
    core, tensors, gates, form = called(case)
    expected = form(*tensors, **gates)
    for split in ((1,) * N, (30, 1, 20, 1, 1, 17), (64, 6)):
        torch.testing.assert_close(in_steps(core, tensors, split, gates)[0], expected)


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_steps_are_those_of_the_formula(case):
    core, tensors, gates, form = called(case, 20)
    given = [x.requires_grad_() for x in (*tensors, *gates.values())]
    expected, (found, _) = form(*tensors, **gates), in_steps(core, tensors, (9, 4, 7), gates)
    require_equal(found, expected, given)


@pytest.mark.parametrize("case", CASES)
def test_gates_may_be_wider_than_the_tokens(case):
    core, tensors, gates, form = called(case)
    narrow = [x.float() for x in tensors]
    out = core.float()(*narrow, **gates)
    assert out.dtype == torch.float32
    expected = form(*(x.double() for x in narrow), **gates)
    torch.testing.assert_close(out.double(), expected.double(), rtol=1e-3, atol=1e-4)


def per_token(x, k):
    """A value per head, (H, ...), for every token of (B, H, N, D) keys: (B, H, N, ...)."""
    return x[None, :, None].expand(*k.shape[:3], *x.shape[1:])


def faded(core, k):
    return {"log_decay": -core.log_rate.exp()}


def written(core, k, most=1):
    return {"beta": most * core.beta_logit.sigmoid()}


def both(core, k):
    return written(core, k) | faded(core, k)


def slowly(core, k):
    return {"log_decay": functional.logsigmoid(core.decay_logit) / 16}


def turns(core, k):
    return written(core, k, 2) | {"transition_key": explicit_states.unit(k)}


LEARNED = {
    "gla": slowly,
    "simple_gla": slowly,
    "mamba2_ssd": faded,
    "deltanet": written,
    "gated_deltanet": both,
    "gated_deltanet2": lambda core, k: (
        faded(core, k) | {"erase": core.erase_logit.sigmoid(), "write": core.write_logit.sigmoid()}
    ),
    "gated_deltanet2 negative": lambda core, k: (
        faded(core, k)
        | {"erase": 2 * core.erase_logit.sigmoid(), "write": core.write_logit.sigmoid()}
    ),
    "comba": lambda core, k: (
        both(core, k)
        | {"removal_key": core.removal_logit.sigmoid()[:, None, None] * explicit_states.unit(k)}
    ),
    "gsa": lambda core, k: faded(core, k) | {"slot": 1 - (-core.log_rate.exp()).exp()},
    "rwkv6": faded,
    "mesanet": both,
    "mamba3": lambda core, k: (
        faded(core, k)
        | {
            "step": core.log_step.exp(),
            "trapezoid": core.trapezoid_logit.sigmoid(),
            "angle": torch.pi * core.angle_logit.tanh(),
        }
    ),
    "log_linear": lambda core, k: (
        faded(core, k) | {"level_scale": functional.softplus(core.level_logit)}
    ),
    "kda": both,
    "rwkv7": lambda core, k: {
        "log_decay": -math.exp(-0.5) * core.decay_logit.sigmoid(),
        "removal_key": explicit_states.unit(k),
        "removal_rate": core.rate_logit.sigmoid(),
    },
    "fox": faded,
    "gated_attention": lambda core, k: {"gate": core.gate_logit.sigmoid()},
    "gated_attention headwise": lambda core, k: {"gate": core.gate_logit.sigmoid()},
    "differential_v2": lambda core, k: {
        "q_minus": torch.zeros_like(k),
        "gate": core.gate_logit.sigmoid(),
    },
    "path": turns,
    "path gated": lambda core, k: turns(core, k) | faded(core, k),
    "deltaformer": lambda core, k: {"beta": core.strength},
}


@pytest.mark.parametrize("case", LEARNED)
def test_without_gates_a_core_takes_those_it_has_learned(case):
    core, (q, k, v), _, form = called(case, n=9)
    for name, parameter in core.named_parameters():
        if name not in WEIGHTS.get(case, ()):
            torch.nn.init.normal_(parameter)
    given = LEARNED[case](core, k)
    given = {name: x if x.dim() == 4 else per_token(x, k) for name, x in given.items()}
    require_equal(core(q, k, v), form(q, k, v, **given), [*core.parameters()])


def test_learned_steps_of_deltaproduct_get_the_gradients_of_the_formula():
    core, (q, k, v), gates, _ = called("gated_deltaproduct")
    for parameter in core.parameters():
        torch.nn.init.normal_(parameter)
    more = {name: gates[name] for name in ("more_keys", "more_values")}
    betas = per_token(2 * core.beta_logit.sigmoid(), k)
    learned = {
        "beta": betas[..., 0],
        "more_betas": betas[..., 1:],
        "log_decay": per_token(-core.log_rate.exp(), k),
    }
    expected = explicit.gated_deltaproduct(q, k, v, **learned, **more)
    require_equal(core(q, k, v, **more), expected, [*core.parameters()])


@pytest.mark.parametrize("name", ["gated_deltanet2", "comba", "gsa", "mesanet", "mamba3"])
def test_a_hard_reset_is_finite(name, qkv):
    q, k, v = (x.requires_grad_() for x in qkv(1, 2, 130, D))
    core = build_attention(name, Geometry(num_heads=2, head_dim=D, seq_len=130, causal=True))
    log_decay = -torch.rand(core.gate_shape("log_decay", 1, 130), dtype=q.dtype)
    log_decay[:, :, [40, 100]] = -torch.inf
    out = core(q, k, v, log_decay=log_decay.requires_grad_())
    found = torch.autograd.grad(out.sum(), (q, k, v, log_decay))
    assert all(x.isfinite().all() for x in (out, *found))


def test_a_hard_reset_leaves_the_digits_of_what_follows(qkv):
    q, k, v = (x.float() for x in qkv(1, 2, 300, D))
    log_decay = -torch.rand(1, 2, 300)
    log_decay[:, :, [40, 270]] = -torch.inf
    core = build_attention("fox", Geometry(num_heads=2, head_dim=D, seq_len=300, causal=True))
    expected = explicit.fox(*(x.double() for x in (q, k, v)), log_decay.double().clamp(min=-1e4))
    out = core(q, k, v, log_decay=log_decay).double()
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=2e-6)


def test_more_keys_of_a_token_are_taken_only_where_there_are_steps_for_them():
    core, tensors, gates, _ = called("gated_deltaproduct", 9)
    alone = {name: gates[name] for name in ("beta", "log_decay")}
    expected = DELTA(*tensors, **alone)
    torch.testing.assert_close(core(*tensors, **alone), expected)  # no more keys, no more steps
    one = build_attention("gated_deltaproduct", core.geometry, num_householder=1)
    with pytest.raises(ValueError, match="more_keys was given; with these hyperparameters"):
        one(*tensors, more_keys=gates["more_keys"][:, :, :, :1])


@pytest.mark.parametrize("window", [None, 1, 7, 300])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_sinks_and_windows_are_those_of_the_formula(window, kv_heads):
    torch.manual_seed(1)
    geometry = Geometry(
        num_heads=4, num_kv_heads=kv_heads, head_dim=D, value_dim=E, seq_len=N, causal=True
    )
    layer = build_attention("softmax_sinks", geometry, window=window).double()
    core = getattr(layer, "core", layer)
    torch.nn.init.normal_(core.sinks)
    core.tile = 16
    q, k, v = (
        torch.randn(2, heads, N, width, dtype=torch.double, requires_grad=True)
        for heads, width in ((4, D), (kv_heads, D), (kv_heads, E))
    )
    expected = explicit.softmax_sinks(q, k, v, core.sinks, window)
    require_equal(layer(q, k, v), expected, (q, k, v, core.sinks))
    state, outputs = layer.init_state(2, dtype=torch.double, device=CPU), []
    for parts in zip(*(x.detach().split((20, 1, 1, 30, 18), 2) for x in (q, k, v)), strict=True):
        layer.step(*parts, state)
        again, state = layer.step(*parts, state)  # the same step can be taken again
        outputs.append(again)
    torch.testing.assert_close(torch.cat(outputs, 2), expected)
    assert state.k.shape[2] == min(window or N, N)


def test_a_sink_far_above_the_scores_takes_all_and_one_of_minus_infinity_nothing(qkv):
    q, k, v = qkv(1, 2, 40, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=40, causal=True)
    core = build_attention("softmax_sinks", geometry)
    torch.nn.init.constant_(core.sinks, 1e4)
    assert torch.equal(core(q, k, v), torch.zeros_like(v))
    torch.nn.init.constant_(core.sinks, -torch.inf)
    exact = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(core(q, k, v), exact)


def test_more_tokens_than_levels_are_refused_in_every_form(qkv):
    q, k, v = qkv(1, 2, 33, D)
    core = build_attention("log_linear", Geometry(num_heads=2, head_dim=D, seq_len=32, causal=True))
    core, kept = core.double(), torch.ones(1, 33, dtype=torch.bool)
    for call in (lambda: core(q, k, v), lambda: core(q, k, v, key_mask=kept)):
        with pytest.raises(ValueError, match="log_linear: a state for 32 tokens holds 0, and 33"):
            call()
    state = core.init_state(1, dtype=torch.double, device=CPU)
    _, state = core.step(*(x[:, :, :32] for x in (q, k, v)), state)
    with pytest.raises(ValueError, match="log_linear: a state for 32 tokens holds 32, and 1"):
        core.step(*(x[:, :, 32:] for x in (q, k, v)), state)


def test_conjugate_gradients_come_near_the_solve_and_no_nearer(qkv):
    q, k, v = qkv(1, 2, 60, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=60, causal=True)
    exact = build_attention("mesanet", geometry).double()(q, k, v)
    errors = []
    for steps in (3, 30, 100):
        core = build_attention("mesanet", geometry, solver="cg", iterations=steps).double()
        errors.append(((core(q, k, v) - exact).norm() / exact.norm()).item())
    assert errors[0] > errors[1] > 1e-7 and errors[2] > 1e-7 and errors[1] < 1e-2
