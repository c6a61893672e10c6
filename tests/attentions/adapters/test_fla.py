"""The adapters against stand-ins with the signatures of fla-core 0.6, token by token and slow."""

import copy
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from attentions import CallShape, Geometry, attention_class, attention_names, build_attention
from attentions.adapters.by_fla import OPERATORS
from attentions.capabilities import DTYPES
from attentions.maths.delta_rule import unit_length
from tests.attentions.adapters import fla_operators

SEQ_LEN, HEADS, KEY_DIM, VALUE_DIM = 13, 3, 8, 6


def recurrence(q, k, v, scale, *, log_decay=None, beta=None):
    """(B, T, H, ...) tensors; the state of one head and batch row after another."""
    assert q.shape == k.shape and v.shape[:3] == q.shape[:3], "heads stand behind tokens"
    out = torch.zeros_like(v)
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            state = q.new_zeros(q.shape[-1], v.shape[-1])
            for t in range(q.shape[1]):
                if log_decay is not None:
                    decay = log_decay[b, t, h].exp()
                    state = state * (decay[:, None] if decay.dim() else decay)
                value = v[b, t, h]
                if beta is not None:
                    value = beta[b, t, h] * (value - k[b, t, h] @ state)
                state = state + torch.outer(k[b, t, h], value)
                out[b, t, h] = (q[b, t, h] * scale) @ state
    return out


def chunk_gla(
    q,
    k,
    v,
    g,
    scale=None,
    initial_state=None,
    output_final_state=False,
    state_v_first=False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
):
    assert q.shape == k.shape == g.shape
    return recurrence(q, k, v, scale or q.shape[-1] ** -0.5, log_decay=g), None


def chunk_simple_gla(
    q,
    k,
    v,
    g=None,
    g_gamma=None,
    scale=None,
    initial_state=None,
    output_final_state=False,
    state_v_first=False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    **kwargs,
):
    assert not kwargs and g.shape == q.shape[:3]
    return recurrence(q, k, v, scale or k.shape[-1] ** -0.5, log_decay=g), None


def chunk_retention(
    q,
    k,
    v,
    scale=None,
    initial_state=None,
    output_final_state=False,
    cu_seqlens=None,
    **kwargs,
):
    assert not kwargs
    gamma = 1 - 2.0 ** (-5.0 - torch.arange(q.shape[2], dtype=q.dtype))
    steps = gamma.log().expand(q.shape[:3])
    return recurrence(q, k, v, scale or k.shape[-1] ** -0.5, log_decay=steps), None


def chunk_delta_rule(
    q,
    k,
    v,
    beta,
    scale=None,
    initial_state=None,
    output_final_state=False,
    use_qk_l2norm_in_kernel=False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    **kwargs,
):
    assert not kwargs and q.dtype == k.dtype == v.dtype != torch.float32
    assert beta.shape == q.shape[:3]
    if use_qk_l2norm_in_kernel:
        q, k = unit_length(q), unit_length(k)
    return recurrence(q, k, v, scale or k.shape[-1] ** -0.5, beta=beta), None


def chunk_gated_delta_rule(
    q,
    k,
    v,
    g,
    beta,
    scale=None,
    initial_state=None,
    output_final_state=False,
    use_qk_l2norm_in_kernel=False,
    use_beta_sigmoid_in_kernel=False,
    allow_neg_eigval=False,
    state_v_first=False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk_indices=None,
    cp_context=None,
    **kwargs,
):
    assert not kwargs and g.shape == beta.shape == q.shape[:3]
    if use_qk_l2norm_in_kernel:
        q, k = unit_length(q), unit_length(k)
    return recurrence(q, k, v, scale or k.shape[-1] ** -0.5, log_decay=g, beta=beta), None


def chunk_kda(
    q,
    k,
    v,
    g,
    beta,
    scale=None,
    initial_state=None,
    output_final_state=False,
    use_qk_l2norm_in_kernel=False,
    use_gate_in_kernel=False,
    use_beta_sigmoid_in_kernel=False,
    allow_neg_eigval=False,
    safe_gate=False,
    **kwargs,
):
    assert not kwargs and g.shape == q.shape and beta.shape == q.shape[:3]
    return recurrence(q, k, v, scale, log_decay=g, beta=beta), None


def chunk_gated_delta_product(
    q,
    k,
    v,
    g,
    beta,
    num_householder,
    scale=None,
    initial_state=None,
    output_final_state=False,
    use_qk_l2norm_in_kernel=False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    cp_context=None,
):
    steps = num_householder
    assert k.shape[1] == v.shape[1] == beta.shape[1] == steps * q.shape[1]
    if g is not None:
        first = torch.zeros(*g.shape[:2], steps, g.shape[2], dtype=g.dtype)
        first[:, :, 0] = g
        g = first.flatten(1, 2)
    q = q.repeat_interleave(steps, dim=1)
    return recurrence(q, k, v, scale, log_decay=g, beta=beta)[:, steps - 1 :: steps], None


KERNELS = {
    "gla": chunk_gla,
    "simple_gla": chunk_simple_gla,
    "retention": chunk_retention,
    "delta_rule": chunk_delta_rule,
    "gated_delta_rule": chunk_gated_delta_rule,
    "kda": chunk_kda,
    "gated_delta_product": chunk_gated_delta_product,
} | fla_operators.KERNELS
OURS = {
    name: name.removesuffix("_fla")
    for name in attention_names()
    if "fla" in attention_class(name).capabilities.requires
}
GATED = [name for name in OURS if attention_class(name).capabilities.gates]
SAME = {"mesanet_fla": {"solver": "cg"}}
"""Settings with which ours is what the adapter is at its default."""
WIDTHS = {"mesanet_fla": (8, 8), "log_linear_fla": (64, 8), "moba_fla": (8, 8)} | dict.fromkeys(
    ("path_fla", "deltaformer_fla"), (16, 16)
)
"""Widths of keys and values where a kernel does not take any."""


def drawn_gates(core, batch_size, seq_len):
    """Random gates of float64 in their ranges, after heads."""
    drawn = {}
    for name, gate in core.gates.items():
        x = torch.rand(core.gate_shape(name, batch_size, seq_len), dtype=torch.float64)
        if gate.is_log_decay:
            drawn[name] = -x
        elif gate.unit:
            drawn[name] = unit_length(torch.randn_like(x))
        else:
            is_share = gate.low == 0 and gate.high < float("inf")
            drawn[name] = gate.high * x if is_share else torch.randn_like(x)
    return drawn


@pytest.fixture
def fla(monkeypatch):
    for name in ("fla", "fla.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name, kernel in KERNELS.items():
        module = ModuleType(f"fla.ops.{name}")
        setattr(module, kernel.__name__, kernel)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in OURS:  # the stand-ins compute in any dtype, so they are compared in float64
        adapter = attention_class(name)
        monkeypatch.setattr(adapter, "capabilities", replace(adapter.capabilities, dtypes=DTYPES))


def geometry(name):
    width, value_dim = WIDTHS.get(name, (KEY_DIM, VALUE_DIM))
    return Geometry(
        num_heads=HEADS, head_dim=width, value_dim=value_dim, seq_len=SEQ_LEN, causal=True
    )


def inputs(name, qkv, batch_size=1):
    width, value_dim = WIDTHS.get(name, (KEY_DIM, VALUE_DIM))
    return qkv(batch_size, HEADS, SEQ_LEN, width, value_dim=value_dim)


def pair(name, **settings):
    """The adapter and ours, with the same learned gates."""
    theirs = build_attention(name, geometry(name), **settings).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    ours = build_attention(OURS[name], geometry(name), **settings, **SAME.get(name, {})).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("name", OURS)
def test_it_computes_what_ours_computes(name, fla, qkv):
    theirs, ours = pair(name)
    tensors = inputs(name, qkv, 2)
    torch.testing.assert_close(theirs(*tensors), ours(*tensors))
    torch.testing.assert_close(theirs(*tensors), theirs.reference(*tensors))


@pytest.mark.parametrize("name", ["gla_fla", "deltanet_fla"])
def test_a_scale_is_passed_on(name, fla, qkv):
    theirs, ours = pair(name, scale=0.7)
    tensors = inputs(name, qkv)
    torch.testing.assert_close(theirs(*tensors), ours(*tensors))


@pytest.mark.parametrize("name", ["deltanet_fla", "gated_deltanet_fla"])
def test_queries_are_normalised_if_asked(name, fla, qkv):
    theirs, ours = pair(name, normalise_queries=True)
    tensors = inputs(name, qkv)
    torch.testing.assert_close(theirs(*tensors), ours(*tensors))


@pytest.mark.parametrize("name", GATED)
def test_gates_that_are_given_take_the_place_of_learned_ones(name, fla, qkv):
    theirs, ours = pair(name)
    tensors = inputs(name, qkv, 2)
    gates = drawn_gates(theirs, 2, SEQ_LEN)
    given = theirs(*tensors, **gates)
    torch.testing.assert_close(given, ours(*tensors, **gates))
    assert not torch.allclose(given, theirs(*tensors))


def test_a_window_and_steps_without_a_decay_reach_their_kernels(fla, qkv):
    for name, settings in (
        ("fox_fla", {"window": 3}),
        ("gated_deltaproduct_fla", {"forget_gate": False, "num_householder": 3}),
        ("gated_deltaproduct_fla", {"num_householder": 1}),
        ("path_fla", {"forget_gate": True}),
        ("moba_fla", {"block_size": 3, "top_k": 2}),
    ):
        tensors = inputs(name, qkv)
        theirs, ours = pair(name, **settings)
        gates = drawn_gates(theirs, 1, SEQ_LEN)
        torch.testing.assert_close(theirs(*tensors, **gates), ours(*tensors, **gates))


@pytest.mark.parametrize("name", OURS)
def test_half_inputs_reach_the_kernel_as_they_are_and_decays_in_float32(name, fla):
    seen = {}

    def kernel(*inputs, **given):
        seen.update(zip("qkv", inputs, strict=False), **given)
        q = seen["q"] if "q" in seen else seen["r"]
        out = q.new_zeros(*q.shape[:3], seen["v"].shape[-1])
        return out if "cu_seqlens" in seen else (out,)

    theirs = build_attention(name, geometry(name)).bfloat16()
    theirs._chunked = kernel
    sizes = theirs.geometry
    q, k = torch.randn(2, 1, HEADS, SEQ_LEN, sizes.head_dim).bfloat16()
    v = torch.randn(1, HEADS, SEQ_LEN, sizes.value_dim).bfloat16()
    assert theirs(q, k, v).shape == v.shape
    gates = OPERATORS[name][2] if name in OPERATORS else {"g": "log_decay"}
    stays = {"log_decay", *getattr(theirs, "wide", ())}
    seen = {x: y for x, y in seen.items() if isinstance(y, torch.Tensor) and x != "cu_seqlens"}
    wide = {x for x in seen if gates.get(x) in stays or x == "lamb"}
    assert {seen[x].dtype for x in wide} <= {torch.float32}
    narrow = {x: y for x, y in seen.items() if x not in wide}
    assert len(narrow) >= 3 and {x.dtype for x in narrow.values()} == {torch.bfloat16}


@pytest.mark.parametrize("name", OURS)
def test_its_flops_need_no_kernel(name, fla):
    core = build_attention(name, geometry(name))
    shape = CallShape(
        batch_size=1,
        num_heads=HEADS,
        query_len=SEQ_LEN,
        key_len=SEQ_LEN,
        head_dim=core.geometry.head_dim,
        value_dim=core.geometry.value_dim,
        causal=True,
    )
    assert core.executed_flops(shape) >= core.flops(shape) * 0.5


@pytest.mark.parametrize("name", OURS)
def test_it_can_be_copied_as_the_oracle_does(name, fla, qkv):
    theirs, _ = pair(name)
    tensors = inputs(name, qkv)
    assert torch.equal(copy.deepcopy(theirs)(*tensors), theirs(*tensors))


@pytest.mark.parametrize("name", OURS)
def test_it_offers_no_step_of_ours(name, fla):
    core = build_attention(name, geometry(name))
    with pytest.raises(TypeError, match=f"{name} has no recurrent form"):
        core.init_state(1, dtype=torch.bfloat16, device=torch.device("cpu"))
    with pytest.raises(TypeError, match=f"{name} has no recurrent form"):
        core.step(None, None, None, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", OURS)
def test_the_real_kernels_agree_with_our_slow_form(name):
    pytest.importorskip("fla", reason="needs fla: pip install 'attnbench[fla]'")
    long = Geometry(num_heads=4, head_dim=64, seq_len=300, causal=True)
    core = build_attention(name, long)
    exact = build_attention(OURS[name], long, **SAME.get(name, {})).double()
    exact.load_state_dict(core.state_dict())
    q, k, v = torch.randn(3, 2, 4, 300, 64)
    out = core.cuda().bfloat16()(*(x.cuda().bfloat16() for x in (q, k, v))).cpu().double()
    expected = exact.reference(*(x.bfloat16().double() for x in (q, k, v)))
    assert (out - expected).norm() < 2e-2 * expected.norm()


@pytest.mark.parametrize(
    ("name", "sizes", "settings", "message"),
    [
        (
            "mesanet_fla",
            (8, 6),
            {},
            "mesanet_fla: value_dim is 6, and its kernel takes head_dim, 8",
        ),
        ("mesanet_fla", (144, 144), {}, "head_dim is 144, and its kernel takes at most 128"),
        ("log_linear_fla", (32, 32), {}, "takes multiples of 64; log_linear takes any"),
        ("log_linear_fla", (64, 48), {}, "value_dim is 48, and its kernel takes powers of two"),
        ("path_fla", (48, 64), {}, "head_dim is 48, and its kernel takes 16, 32, 64 or 128"),
        ("gated_deltanet2_fla", (320, 64), {}, "takes at most 256"),
        ("deltaformer_fla", (64, 32), {}, "takes head_dim, 64"),
        ("moba_fla", (64, 64), {"top_k": 1}, "top_k is 1, and its kernel takes 2 or more"),
    ],
)
def test_sizes_that_a_kernel_does_not_compute_are_refused(name, sizes, settings, message, fla):
    shape = Geometry(
        num_heads=2, head_dim=sizes[0], value_dim=sizes[1], seq_len=SEQ_LEN, causal=True
    )
    with pytest.raises(ValueError, match=message):
        build_attention(name, shape, **settings)
