"""Chunks and steps in float32 against the recurrence in float64, where gates are at their ends."""

import math

import pytest
import torch

from attentions import Geometry, build_attention
from tests.attentions.calls import in_steps

H, N, D = 2, 150, 8  # two chunks of 64 and a part of one
LENGTHS = (1, 70, 1, 78)


def recurrence(q, k, v, log_decay, beta=None):
    """Token by token, from an empty state; log_decay is (B, H, N, 1) or (B, H, N, D)."""
    state, outputs = q.new_zeros(*q.shape[:2], D, D), []
    for t in range(q.shape[2]):
        state = state * log_decay[:, :, t, :, None].exp()
        new = v[:, :, t]
        if beta is not None:
            stored = torch.einsum("bhde,bhd->bhe", state, k[:, :, t])
            new = beta[:, :, t, None] * (new - stored)
        state = state + k[:, :, t, :, None] * new[:, :, None]
        outputs.append(torch.einsum("bhde,bhd->bhe", state, q[:, :, t]))
    return torch.stack(outputs, dim=2)


def unit(k):
    return k * (k.square().sum(dim=-1, keepdim=True) + 1e-6).rsqrt()


def log_decays(kind, sizes):
    some = torch.rand(sizes)
    return {
        "nothing is forgotten": torch.zeros(sizes),
        "all is forgotten": torch.full(sizes, -torch.inf),
        "more than all": torch.full(sizes, -3e38),
        "one or the other": torch.zeros(sizes).masked_fill(some < 0.2, -torch.inf),
        "hardly anything": torch.full(sizes, -1e-7),
        "a lot, then little": (-1e-3 * some).index_fill(2, torch.arange(0, N, 37), -1e4),
    }[kind]


KINDS = (
    "nothing is forgotten",
    "all is forgotten",
    "more than all",
    "one or the other",
    "hardly anything",
    "a lot, then little",
)


def assert_all_forms_are(expected, core, tensors, gates, share=3e-6):
    """Within a share of the largest output: nothing here divides."""
    tolerance = {"rtol": 0, "atol": share * float(expected.abs().amax().clamp(min=1e-3))}
    torch.testing.assert_close(core(*tensors, **gates).double(), expected, **tolerance)
    out, _ = in_steps(core, tensors, LENGTHS, gates)
    torch.testing.assert_close(out.double(), expected, **tolerance)


def build(name, **settings):
    return build_attention(
        name, Geometry(num_heads=H, head_dim=D, seq_len=N, causal=True), **settings
    )


@pytest.mark.parametrize("name", ["gated_deltanet", "gla", "mamba2_ssd", "simple_gla"])
@pytest.mark.parametrize("kind", KINDS)
def test_forms_agree_whatever_is_forgotten(name, kind):
    q, k, v = torch.randn(3, 1, H, N, D)
    gates = {"log_decay": log_decays(kind, (1, H, N, D) if name == "gla" else (1, H, N))}
    core = build(name, **({} if name == "mamba2_ssd" else {"scale": 1.0}))
    wide = [x.double() for x in (q, k, v, gates["log_decay"])]
    if name != "gla":
        wide[3] = wide[3].unsqueeze(-1)
    if name == "gated_deltanet":
        gates = {"beta": torch.rand(1, H, N)} | gates
        expected = recurrence(wide[0], unit(wide[1]), *wide[2:], beta=gates["beta"].double())
    else:
        expected = recurrence(*wide)
    with torch.no_grad():
        assert_all_forms_are(expected, core, (q, k, v), gates)


@pytest.mark.parametrize("name", ["gla", "mamba2_ssd", "simple_gla"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_whatever_is_forgotten(name, kind):
    tensors = [x.requires_grad_() for x in torch.randn(3, 1, H, N, D)]
    gate = log_decays(kind, (1, H, N, D) if name == "gla" else (1, H, N)).requires_grad_()
    out = build(name)(*tensors, log_decay=gate)
    assert all(x.isfinite().all() for x in torch.autograd.grad(out.sum(), (*tensors, gate)))


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("keys", ["any", "zero", "one", "axes", "short"])
def test_the_delta_rule_holds_where_nothing_all_or_twice_as_much_gives_way(beta, keys):
    q, k, v = torch.randn(3, 1, H, N, D)
    k = {
        "any": k,
        "zero": torch.zeros_like(k),
        "one": k[:, :, :1].expand_as(k),
        "axes": torch.eye(D)[torch.randint(D, (1, H, N))],
        "short": 1e-6 * k,
    }[keys]
    given = torch.full((1, H, N), beta)
    nothing = torch.zeros(1, H, N, 1, dtype=torch.float64)
    wide = q.double(), unit(k.double()), v.double()
    expected = recurrence(*wide, nothing, beta=given.double())
    with torch.no_grad():
        core = build("deltanet", scale=1.0)
        # A beta of 2 mirrors the state token by token, so it remembers the rounding of all of them.
        # Of 60 seeds, keys of one direction give 5e-5 at most, as a recurrence in float32 does, and
        # others 5.1e-6, where a triangular solver gives 3.3e-6.
        share = {(2.0, "one"): 1e-4, (2.0, "any"): 1e-5}.get((beta, keys), 3e-6)
        assert_all_forms_are(expected, core, (q, k, v), {"beta": given}, share)
        exact = [x.double() for x in (q, k, v)]
        assert_all_forms_are(expected, core, exact, {"beta": given.double()}, share * 1e-8)


def test_the_angle_of_a_mamba3_state_keeps_its_digits_over_thousands_of_tokens():
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=4000, causal=True)
    core = build_attention("mamba3", geometry, num_angles=2)
    gates = {"step": torch.rand(1, 2, 4000), "angle": 3 * torch.rand(1, 2, 4000, 2)}
    state = core.init_state(1, dtype=torch.float32, device=torch.device("cpu"))
    with torch.no_grad():
        _, state = core.step(*torch.randn(3, 1, 2, 4000, 4), state, **gates)
    expected = (gates["step"].double()[..., None] * gates["angle"].double()).sum(dim=2)
    off = (state.angle[:, :, 0].double() - expected + math.pi) % (2 * math.pi) - math.pi
    assert off.abs().max() < 3e-5
