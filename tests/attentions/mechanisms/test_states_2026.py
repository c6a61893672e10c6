"""Recurrences of 2024 to 2026 against forms that share no code with them.

Outputs, gradients of inputs, gates and weights, hidden tokens, decoding; `explicit_states` has
the formulas.
"""

import functools

import pytest
import torch
from torch.nn import functional

from attentions import CallShape, Geometry, build_attention
from bench.measuring.measure.flops import count
from bench.studies.conformance.gates import gates_of
from tests.attentions.mechanisms import explicit_states as explicit

N, D, E = 75, 8, 6
PLAIN = {"normalise_keys": False}
CG = {"solver": "cg", "iterations": 7, "normalise_queries": False} | PLAIN
CASES = {
    "gated_deltanet2": (PLAIN, explicit.gated_deltanet2),
    "gated_deltanet2 negative": (
        PLAIN | {"negative_eigenvalues": True},
        explicit.gated_deltanet2,
    ),
    "comba": (PLAIN, explicit.comba),
    "gsa": ({"num_slots": 5}, explicit.gsa),
    "rwkv6": ({}, explicit.rwkv6),
    "mesanet": (PLAIN | {"normalise_queries": False}, explicit.mesanet),
    "mesanet cg": (CG, functools.partial(explicit.mesanet, steps=7)),
    "mamba3": ({"num_angles": 3}, explicit.mamba3),
    "mamba3 without angles": ({"num_angles": 0}, explicit.mamba3),
    "log_linear": ({}, explicit.log_linear),
    "log_linear more levels": ({"num_levels": 9}, explicit.log_linear),
}
WEIGHTS = {
    "rwkv6": ("bonus",),
    "mesanet": ("ridge",),
    "mamba3": ("q_bias", "k_bias", "skip"),
}
every = pytest.mark.parametrize("case", CASES)


def called(case, n=N, kv_heads=2):
    """A core, the float64 inputs of a call, with keys of unit length, and the formula."""
    torch.manual_seed(3)
    name, (settings, form) = case.split()[0], CASES[case]
    geometry = Geometry(
        num_heads=2, num_kv_heads=kv_heads, head_dim=D, value_dim=E, seq_len=n, causal=True
    )
    core = build_attention(name, geometry, **settings).double()
    inner = getattr(core, "core", core)
    weights = {at: getattr(inner, at) for at in WEIGHTS.get(name, ())}
    for weight in weights.values():
        torch.nn.init.uniform_(weight, 0.2, 1.5)
    sizes = ((2, D), (kv_heads, D), (kv_heads, E))
    q, k, v = (torch.randn(2, heads, n, width, dtype=torch.double) for heads, width in sizes)
    k = functional.normalize(k, dim=-1)
    return core, (q, k, v), gates_of(core, (q, k, v)), functools.partial(form, **weights)


def weights_of(form):
    return [x for x in form.keywords.values() if isinstance(x, torch.Tensor)]


def require_equal_gradients(out, expected, given):
    cotangent = torch.randn_like(out)
    ours, theirs = (
        torch.autograd.grad(x, given, cotangent, allow_unused=True, materialize_grads=True)
        for x in (out, expected)
    )
    torch.testing.assert_close(ours, theirs)


@every
@pytest.mark.parametrize("n", [N, 1, 130])
def test_outputs_and_gradients_are_those_of_the_formula(case, n):
    core, tensors, gates, form = called(case, n)
    inputs = [x.requires_grad_() for x in (*tensors, *gates.values())]
    out, expected = core(*tensors, **gates), form(*tensors, **gates)
    torch.testing.assert_close(out, expected)
    require_equal_gradients(out, expected, inputs + weights_of(form))


@every
def test_hidden_tokens_are_as_if_removed_and_get_no_gradient(case):
    core, tensors, gates, form = called(case)
    key_mask = torch.rand(1, N) < 0.6
    kept = key_mask[0].nonzero()[:, 0]
    inputs = [x.requires_grad_() for x in (*tensors, *gates.values())]
    seen = core(*tensors, **gates, key_mask=key_mask.expand(2, -1))[:, :, kept]
    fewer = {name: gate[:, :, kept] for name, gate in gates.items()}
    expected = form(*(x[:, :, kept] for x in tensors), **fewer)
    torch.testing.assert_close(seen, expected)
    require_equal_gradients(seen, expected, inputs + weights_of(form))


@every
def test_steps_equal_the_formula_however_a_prompt_is_split(case):
    core, tensors, gates, form = called(case)
    expected = form(*tensors, **gates)
    for split in ((1,) * N, (30, 1, 20, 1, 1, 22), (5, 70), (64, 11)):
        state, outputs = core.init_state(2, dtype=torch.double, device=torch.device("cpu")), []
        for q, k, v, *given in zip(
            *(x.split(split, 2) for x in (*tensors, *gates.values())), strict=True
        ):
            out, state = core.step(q, k, v, state, **dict(zip(gates, given, strict=True)))
            outputs.append(out)
        torch.testing.assert_close(torch.cat(outputs, 2), expected)


@every
def test_a_reference_is_the_formula_as_well(case):
    core, tensors, gates, form = called(case)
    torch.testing.assert_close(core.reference(*tensors, **gates), form(*tensors, **gates))


@pytest.mark.parametrize("name", ["gated_deltanet2", "comba", "gsa", "mesanet", "mamba3"])
def test_a_hard_reset_is_finite(name, qkv):
    q, k, v = (x.requires_grad_() for x in qkv(1, 2, 130, D))
    core = build_attention(name, Geometry(num_heads=2, head_dim=D, seq_len=130, causal=True))
    width = core.gate_shape("log_decay", 1, 130)
    log_decay = -torch.rand(width, dtype=q.dtype)
    log_decay[:, :, [40, 100]] = -torch.inf
    out = core(q, k, v, log_decay=log_decay.requires_grad_())
    found = torch.autograd.grad(out.sum(), (q, k, v, log_decay))
    assert all(x.isfinite().all() for x in (out, *found))


def test_equal_channels_make_gated_deltanet2_kda(qkv):
    q, k, v = qkv(1, 2, 130, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=130, causal=True)
    beta, decay = torch.rand(1, 2, 130).double(), -torch.rand(1, 2, 130, D).double()
    wide = beta[..., None].expand(-1, -1, -1, D)
    ours = build_attention("gated_deltanet2", geometry)
    out = ours(q, k, v, log_decay=decay, erase=wide, write=wide)
    theirs = build_attention("kda", geometry)(q, k, v, beta=beta, log_decay=decay)
    torch.testing.assert_close(out, theirs)


def test_a_decayed_removal_key_makes_comba_gated_deltanet(qkv):
    q, k, v = qkv(1, 2, 130, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=130, causal=True)
    k = functional.normalize(k, dim=-1)
    gates = {"beta": torch.rand(1, 2, 130).double(), "log_decay": -torch.rand(1, 2, 130).double()}
    removal = gates["log_decay"].exp()[..., None] * k
    ours = build_attention("comba", geometry, normalise_keys=False)
    theirs = build_attention("gated_deltanet", geometry, normalise_keys=False)
    torch.testing.assert_close(
        ours(q, k, v, removal_key=removal, **gates), theirs(q, k, v, **gates)
    )


def test_without_trapezoid_and_angles_mamba3_is_mamba2(qkv):
    q, k, v = qkv(1, 2, 130, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=130, causal=True)
    decay, step = -torch.rand(1, 2, 130).double(), torch.rand(1, 2, 130).double()
    core = build_attention("mamba3", geometry, num_angles=0).double()
    for weight in (core.q_bias, core.k_bias, core.skip):
        torch.nn.init.zeros_(weight)
    out = core(q, k, v, log_decay=decay, step=step, trapezoid=torch.ones_like(step))
    theirs = build_attention("mamba2_ssd", geometry)(q, k, v * step[..., None], log_decay=decay)
    torch.testing.assert_close(out, theirs)


def test_equal_scales_make_log_linear_simple_gla(qkv):
    q, k, v = qkv(1, 2, 130, D)
    geometry = Geometry(num_heads=2, head_dim=D, seq_len=130, causal=True)
    decay = -torch.rand(1, 2, 130).double()
    out = build_attention("log_linear", geometry).double()(q, k, v, log_decay=decay)
    theirs = build_attention("simple_gla", geometry, scale=1.0)(q, k, v, log_decay=decay)
    torch.testing.assert_close(out, theirs)


def test_more_tokens_than_levels_are_refused_in_every_form(qkv):
    q, k, v = qkv(1, 2, 33, D)
    core = build_attention("log_linear", Geometry(num_heads=2, head_dim=D, seq_len=32, causal=True))
    core = core.double()
    kept = torch.ones(1, 33, dtype=torch.bool)
    for call in (lambda: core(q, k, v), lambda: core(q, k, v, key_mask=kept)):
        with pytest.raises(ValueError, match="log_linear: a state for 32 tokens holds 0, and 33"):
            call()
    state = core.init_state(1, dtype=torch.double, device=torch.device("cpu"))
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


@pytest.mark.parametrize("name", ["mamba3", "log_linear", "mesanet", "gsa", "rwkv6", "comba"])
@pytest.mark.parametrize("n", [1, 7, 64, 100, 200, 320])
def test_executed_flops_are_those_of_the_counter(name, n):
    geometry = Geometry(num_heads=4, head_dim=8, value_dim=6, seq_len=n, causal=True)
    core, shape = (
        build_attention(name, geometry),
        CallShape(
            batch_size=2, num_heads=4, query_len=n, key_len=n, head_dim=8, value_dim=6, causal=True
        ),
    )
    tensors = [torch.randn(2, 4, n, width) for width in (8, 8, 6)]
    with torch.no_grad():
        assert core.executed_flops(shape) == count(lambda: core(*tensors)).counted_flops


def test_num_angles_beyond_the_channels_are_refused():
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=9, causal=True)
    with pytest.raises(ValueError, match="mamba3: num_angles is 5; a number of 4 or less"):
        build_attention("mamba3", geometry, num_angles=5)
    assert build_attention("mamba3", geometry).gate_axes == {"a": 2}


def per_token(x, k):
    """A value per head, (H, ...), for every token of (B, H, N, D) keys: (B, H, N, ...)."""
    return x[None, :, None].expand(*k.shape[:3], *x.shape[1:])


def unit(k):
    return k * (k.square().sum(-1, keepdim=True) + 1e-6) ** -0.5


def faded(core):
    return -core.log_rate.exp()


LEARNED = {
    "gated_deltanet2": lambda core, k: {
        "log_decay": faded(core),
        "erase": core.erase_logit.sigmoid(),
        "write": core.write_logit.sigmoid(),
    },
    "gated_deltanet2 negative": lambda core, k: {
        "log_decay": faded(core),
        "erase": 2 * core.erase_logit.sigmoid(),
        "write": core.write_logit.sigmoid(),
    },
    "comba": lambda core, k: {
        "beta": core.beta_logit.sigmoid(),
        "log_decay": faded(core),
        "removal_key": core.removal_logit.sigmoid()[:, None, None] * unit(k),
    },
    "gsa": lambda core, k: {"log_decay": faded(core), "slot": 1 - faded(core).exp()},
    "rwkv6": lambda core, k: {"log_decay": faded(core)},
    "mesanet": lambda core, k: {"beta": core.beta_logit.sigmoid(), "log_decay": faded(core)},
    "mamba3": lambda core, k: {
        "log_decay": faded(core),
        "step": core.log_step.exp(),
        "trapezoid": core.trapezoid_logit.sigmoid(),
        "angle": torch.pi * core.angle_logit.tanh(),
    },
    "log_linear": lambda core, k: {
        "log_decay": faded(core),
        "level_scale": functional.softplus(core.level_logit),
    },
}


@pytest.mark.parametrize("case", LEARNED)
def test_without_gates_a_core_takes_those_it_has_learned(case):
    core, tensors, _, form = called(case, n=9)
    for name, parameter in core.named_parameters():
        if name not in WEIGHTS.get(case, ()):
            torch.nn.init.normal_(parameter)
    given = LEARNED[case](core, tensors[1])
    given = {name: x if x.dim() == 4 else per_token(x, tensors[1]) for name, x in given.items()}
    out, expected = core(*tensors), form(*tensors, **given)
    torch.testing.assert_close(out, expected)
    require_equal_gradients(out, expected, [*core.parameters()])


def test_the_angle_of_a_mamba3_state_stays_within_a_turn():
    core, tensors, gates, _ = called("mamba3", n=40)
    gates |= {"angle": torch.full_like(gates["angle"], 3.1), "step": torch.ones_like(gates["step"])}
    state = core.init_state(2, dtype=torch.double, device=torch.device("cpu"))
    for split in (slice(0, 30), *(slice(t, t + 1) for t in range(30, 40))):
        given = {name: x[:, :, split] for name, x in gates.items()}
        _, state = core.step(*(x[:, :, split] for x in tensors), state, **given)
        assert state.angle.min() >= 0 and state.angle.max() < 2 * torch.pi
