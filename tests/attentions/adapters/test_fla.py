"""The adapters against stand-ins with the signatures of fla-core 0.6, token by token and slow."""

import copy
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from attentions import CallShape, Geometry, attention_class, attention_names, build_attention
from attentions.capabilities import DTYPES
from attentions.maths.delta_rule import unit_length

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


def parallel_forgetting_attn(q, k, v, g, scale=None, window_size=None, cu_seqlens=None):
    assert g.shape == q.shape[:3]
    n, total = q.shape[1], g.cumsum(1).transpose(1, 2)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * (scale or q.shape[-1] ** -0.5)
    scores = scores + total[..., :, None] - total[..., None, :]
    seen = torch.ones(n, n).tril().triu(1 - (window_size or n)).bool()
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("bhij,bjhe->bihe", weights, v)


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


def chunk_rwkv7(
    r,
    w,
    k,
    v,
    a,
    b,
    scale=1.0,
    initial_state=None,
    output_final_state=False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    safe_gate=False,
    chunk_size=None,
    disable_recompute=False,
    cp_context=None,
    lower_bound=None,
):
    out, state = torch.zeros_like(v), r.new_zeros(*r[:, 0].shape, v.shape[-1])
    for t in range(r.shape[1]):
        read = torch.einsum("bhd,bhde->bhe", a[:, t], state)
        state = state * w[:, t].exp().unsqueeze(-1)
        for key, value in ((b[:, t], read), (k[:, t], v[:, t])):
            state = state + key.unsqueeze(-1) * value.unsqueeze(-2)
        out[:, t] = torch.einsum("bhd,bhde->bhe", r[:, t] * scale, state)
    return out, None


KERNELS = {
    "gla": chunk_gla,
    "simple_gla": chunk_simple_gla,
    "retention": chunk_retention,
    "delta_rule": chunk_delta_rule,
    "gated_delta_rule": chunk_gated_delta_rule,
    "kda": chunk_kda,
    "forgetting_attn": parallel_forgetting_attn,
    "gated_delta_product": chunk_gated_delta_product,
    "rwkv7": chunk_rwkv7,
}
OURS = {
    name: name.removesuffix("_fla")
    for name in attention_names()
    if "fla" in attention_class(name).capabilities.requires
}


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


def geometry():
    return Geometry(
        num_heads=HEADS, head_dim=KEY_DIM, value_dim=VALUE_DIM, seq_len=SEQ_LEN, causal=True
    )


def pair(name, **settings):
    """The adapter and ours, with the same learned gates."""
    theirs = build_attention(name, geometry(), **settings).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    ours = build_attention(OURS[name], geometry(), **settings).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("name", OURS)
def test_it_computes_what_ours_computes(name, fla, qkv):
    theirs, ours = pair(name)
    tensors = qkv(2, HEADS, SEQ_LEN, KEY_DIM, value_dim=VALUE_DIM)
    torch.testing.assert_close(theirs(*tensors), ours(*tensors))
    torch.testing.assert_close(theirs(*tensors), theirs.reference(*tensors))


@pytest.mark.parametrize("name", ["gla_fla", "deltanet_fla"])
def test_a_scale_is_passed_on(name, fla, qkv):
    theirs, ours = pair(name, scale=0.7)
    tensors = qkv(1, HEADS, SEQ_LEN, KEY_DIM, value_dim=VALUE_DIM)
    torch.testing.assert_close(theirs(*tensors), ours(*tensors))


@pytest.mark.parametrize("name", ["deltanet_fla", "gated_deltanet_fla"])
def test_queries_are_normalised_if_asked(name, fla, qkv):
    theirs, ours = pair(name, normalise_queries=True)
    tensors = qkv(1, HEADS, SEQ_LEN, KEY_DIM, value_dim=VALUE_DIM)
    torch.testing.assert_close(theirs(*tensors), ours(*tensors))


@pytest.mark.parametrize("name", [n for n in OURS if n != "retnet_fla"])
def test_gates_that_are_given_take_the_place_of_learned_ones(name, fla, qkv):
    theirs, ours = pair(name)
    tensors = qkv(2, HEADS, SEQ_LEN, KEY_DIM, value_dim=VALUE_DIM)
    gates = drawn_gates(theirs, 2, SEQ_LEN)
    given = theirs(*tensors, **gates)
    torch.testing.assert_close(given, ours(*tensors, **gates))
    assert not torch.allclose(given, theirs(*tensors))


def test_a_window_and_steps_without_a_decay_reach_their_kernels(fla, qkv):
    tensors = qkv(1, HEADS, SEQ_LEN, KEY_DIM, value_dim=VALUE_DIM)
    for name, settings in (
        ("fox_fla", {"window": 3}),
        ("gated_deltaproduct_fla", {"forget_gate": False, "num_householder": 3}),
        ("gated_deltaproduct_fla", {"num_householder": 1}),
    ):
        theirs, ours = pair(name, **settings)
        gates = drawn_gates(theirs, 1, SEQ_LEN)
        torch.testing.assert_close(theirs(*tensors, **gates), ours(*tensors, **gates))


@pytest.mark.parametrize("name", OURS)
def test_half_inputs_reach_the_kernel_as_they_are_and_decays_in_float32(name, fla):
    seen = {}

    def kernel(*inputs, **given):
        seen.update(zip("qkv", inputs, strict=False), **given)
        q = seen["q"] if "q" in seen else seen["r"]
        return (q.new_zeros(*q.shape[:3], VALUE_DIM),)

    theirs = build_attention(name, geometry()).bfloat16()
    theirs._chunked = kernel
    q, k = torch.randn(2, 1, HEADS, SEQ_LEN, KEY_DIM).bfloat16()
    v = torch.randn(1, HEADS, SEQ_LEN, VALUE_DIM).bfloat16()
    assert theirs(q, k, v).shape == v.shape
    wide = {x for x in ("g", "w") if x in seen}
    assert {seen[x].dtype for x in wide} <= {torch.float32}
    narrow = {x: y for x, y in seen.items() if isinstance(y, torch.Tensor) and x not in wide}
    assert len(narrow) >= 3 and {x.dtype for x in narrow.values()} == {torch.bfloat16}


@pytest.mark.parametrize("name", OURS)
def test_its_flops_need_no_kernel(name, fla):
    core = build_attention(name, geometry())
    shape = CallShape(
        batch_size=1,
        num_heads=HEADS,
        query_len=SEQ_LEN,
        key_len=SEQ_LEN,
        head_dim=KEY_DIM,
        value_dim=VALUE_DIM,
        causal=True,
    )
    assert core.executed_flops(shape) >= core.flops(shape) * 0.5


@pytest.mark.parametrize("name", OURS)
def test_it_can_be_copied_as_the_oracle_does(name, fla, qkv):
    theirs, _ = pair(name)
    tensors = qkv(1, HEADS, SEQ_LEN, KEY_DIM, value_dim=VALUE_DIM)
    assert torch.equal(copy.deepcopy(theirs)(*tensors), theirs(*tensors))


@pytest.mark.parametrize("name", OURS)
def test_it_offers_no_step_of_ours(name, fla):
    core = build_attention(name, geometry())
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
    exact = build_attention(OURS[name], long).double()
    exact.load_state_dict(core.state_dict())
    q, k, v = torch.randn(3, 2, 4, 300, 64)
    out = core.cuda().bfloat16()(*(x.cuda().bfloat16() for x in (q, k, v))).cpu().double()
    expected = exact.reference(*(x.bfloat16().double() for x in (q, k, v)))
    assert (out - expected).norm() < 2e-2 * expected.norm()
