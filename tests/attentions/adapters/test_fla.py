"""The adapters against stand-ins with the signatures of fla-core 0.6, token by token and slow."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from attentions import Geometry, attention_class, attention_names, build_attention
from attentions.adapters.fla import OPERATORS
from attentions.capabilities import DTYPES
from attentions.maths.recurrences.delta_rule import unit_length
from tests.attentions.adapters.fla_operators import KERNELS

SEQ_LEN, HEADS, KEY_DIM, VALUE_DIM = 13, 3, 8, 6

OURS = {
    name: name.removesuffix("_fla")
    for name in attention_names()
    if "fla" in attention_class(name).capabilities.requires
}
GATED = [name for name in OURS if attention_class(name).capabilities.gates]
ROWS = {row.name: row for row in OPERATORS}
HEADS_OF = {"nsa_fla": (16, 1)}
"""Heads of queries and of keys where a kernel does not take any."""
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


def geometry(name, heads_of=HEADS_OF):
    width, value_dim = WIDTHS.get(name, (KEY_DIM, VALUE_DIM))
    heads, kv_heads = heads_of.get(name, (HEADS, HEADS))
    sizes = {"num_heads": heads, "num_kv_heads": kv_heads, "seq_len": SEQ_LEN, "causal": True}
    return Geometry(head_dim=width, value_dim=value_dim, **sizes)


def inputs(name, qkv, batch_size=1, heads_of=HEADS_OF):
    width, value_dim = WIDTHS.get(name, (KEY_DIM, VALUE_DIM))
    heads, kv_heads = heads_of.get(name, (HEADS, HEADS))
    q, k, v = qkv(batch_size, heads, SEQ_LEN, width, value_dim=value_dim)
    return q, k[:, :kv_heads], v[:, :kv_heads]


def pair(name, heads_of=HEADS_OF, **settings):
    """The adapter and ours, with the same learned gates."""
    shape = geometry(name, heads_of)
    theirs = build_attention(name, shape, **settings).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    ours = build_attention(OURS[name], shape, **settings, **ROWS[name].fixed).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("name", OURS)
def test_it_computes_what_ours_computes_with_own_heads_and_with_shared_ones(name, fla, qkv):
    for heads_of in (HEADS_OF, *([] if name in HEADS_OF else [{name: (4, 2)}])):
        theirs, ours = pair(name, heads_of)
        tensors = inputs(name, qkv, 2, heads_of)
        torch.testing.assert_close(theirs(*tensors), ours(*tensors))
        torch.testing.assert_close(theirs(*tensors), theirs.reference(*tensors))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gla_fla", {"scale": 0.7}),
        ("deltanet_fla", {"scale": 0.7}),
        ("deltanet_fla", {"normalise_queries": True}),
        ("gated_deltanet_fla", {"normalise_queries": True}),
    ],
)
def test_a_scale_and_lengths_of_queries_reach_their_kernels(name, settings, fla, qkv):
    theirs, ours = pair(name, **settings)
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
        ("nsa_fla", {"block_size": 8, "num_blocks": 4, "window": 3}),
    ):
        tensors = inputs(name, qkv)
        theirs, ours = pair(name, **settings)
        gates = drawn_gates(theirs, 1, SEQ_LEN)
        torch.testing.assert_close(theirs(*tensors, **gates), ours(*tensors, **gates))


@pytest.mark.parametrize("name", OURS)
def test_half_inputs_reach_the_kernel_as_they_are_and_decays_in_float32(name, fla, qkv):
    seen = {}

    def kernel(*inputs, **given):
        seen.update(zip("qkv", inputs, strict=False), **given)
        q = seen["q"] if "q" in seen else seen["r"]
        out = q.new_zeros(*q.shape[:3], seen["v"].shape[-1])
        return out if "cu_seqlens" in seen else (out,)

    theirs = build_attention(name, geometry(name)).bfloat16()
    theirs._kernel = kernel
    q, k, v = (x.bfloat16() for x in inputs(name, qkv))
    assert theirs(q, k, v).shape == (*q.shape[:3], v.shape[-1])
    row = ROWS[name]
    stays = {"log_decay", *row.wide}
    seen = {x: y for x, y in seen.items() if isinstance(y, torch.Tensor) and x != "cu_seqlens"}
    wide = {x for x in seen if row.arguments[x] in stays}
    assert {seen[x].dtype for x in wide} <= {torch.float32}
    narrow = {x: y for x, y in seen.items() if x not in wide}
    assert len(narrow) >= 3 and {x.dtype for x in narrow.values()} == {torch.bfloat16}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", OURS)
def test_the_real_kernels_agree_with_our_slow_form(name):
    pytest.importorskip("fla", reason="needs fla: pip install 'attnbench[fla]'")
    long = Geometry(num_heads=4, head_dim=64, seq_len=300, causal=True)
    core = build_attention(name, long)
    exact = build_attention(OURS[name], long, **ROWS[name].fixed).double()
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
        ("gated_deltanet2_fla", (320, 64), {}, "takes at most 256"),
        ("deltaformer_fla", (64, 32), {}, "takes head_dim, 64"),
        ("moba_fla", (64, 64), {"top_k": 1}, "top_k is 1, and its kernel takes 2 or more"),
        ("nsa_fla", (64, 64), {}, "num_kv_heads is 1, and its kernel takes powers of two from 16"),
    ],
)
def test_sizes_that_a_kernel_does_not_compute_are_refused(name, sizes, settings, message, fla):
    shape = Geometry(
        num_heads=2, head_dim=sizes[0], value_dim=sizes[1], seq_len=SEQ_LEN, causal=True
    )
    with pytest.raises(ValueError, match=message):
        build_attention(name, shape, **settings)
