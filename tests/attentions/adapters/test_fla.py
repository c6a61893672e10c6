"""The adapters against stand-ins with the signatures of fla-core 0.6, token by token and slow."""

import copy
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from attentions import Geometry, attention_class, build_attention
from attentions.capabilities import DTYPES
from tests.attentions.calls import call_of

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
    return recurrence(q, k, v, scale or k.shape[-1] ** -0.5, log_decay=g, beta=beta), None


KERNELS = {
    "gla": chunk_gla,
    "simple_gla": chunk_simple_gla,
    "retention": chunk_retention,
    "delta_rule": chunk_delta_rule,
    "gated_delta_rule": chunk_gated_delta_rule,
}
OURS = {
    "gla_fla": "gla",
    "simple_gla_fla": "simple_gla",
    "retnet_fla": "retnet",
    "deltanet_fla": "deltanet",
    "gated_deltanet_fla": "gated_deltanet",
}


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
    sizes = tensors[0].shape if name == "gla_fla" else tensors[0].shape[:3]
    drawn = {"log_decay": -torch.rand(sizes).double(), "beta": torch.rand(sizes).double()}
    gates = {gate: drawn[gate] for gate in theirs.capabilities.gates}
    given = theirs(*tensors, **gates)
    torch.testing.assert_close(given, ours(*tensors, **gates))
    assert not torch.allclose(given, theirs(*tensors))


@pytest.mark.parametrize("name", OURS)
def test_half_inputs_reach_the_kernel_as_they_are_and_decays_in_float32(name, fla):
    seen = {}

    def kernel(q, k, v, **given):
        seen.update(given, q=q, k=k, v=v)
        return (torch.zeros_like(v),)

    theirs = build_attention(name, geometry()).bfloat16()
    theirs._chunked = kernel
    q, k = torch.randn(2, 1, HEADS, SEQ_LEN, KEY_DIM).bfloat16()
    v = torch.randn(1, HEADS, SEQ_LEN, VALUE_DIM).bfloat16()
    assert theirs(q, k, v).shape == v.shape
    assert {seen[x].dtype for x in "qkv"} == {torch.bfloat16}
    assert seen.get("g", torch.zeros(1)).dtype == torch.float32
    assert seen.get("beta", q).dtype == torch.bfloat16


@pytest.mark.parametrize("name", OURS)
def test_it_can_be_copied_as_the_oracle_does(name, fla, qkv):
    theirs, _ = pair(name)
    tensors = qkv(1, HEADS, SEQ_LEN, KEY_DIM, value_dim=VALUE_DIM)
    assert torch.equal(copy.deepcopy(theirs)(*tensors), theirs(*tensors))


@pytest.mark.parametrize("name", OURS)
def test_executed_flops_are_those_of_our_chunks(name, fla):
    shape = call_of(150, KEY_DIM, VALUE_DIM, num_heads=HEADS, causal=True)
    theirs, ours = (core.executed_flops(shape) for core in pair(name))
    assert theirs == ours > 0


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
