"""The kernels of other packages, run or read on a processor: `make test-kernels` brings them.

Triton's interpreter runs the kernels of flash-linear-attention as they are, gradients included. Of
flash-attn and xformers only what stands in Python can run: what their compiled parts would be asked
for is looked at. Where kernels of flash-linear-attention ask flash-attn, softmax stands for it.
"""

import builtins
import importlib
import inspect
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from attentions import Geometry, build_attention, hyperparameters
from attentions.mechanisms.softmax import explicit_softmax
from tests.attentions.adapters import fla_operators
from tests.attentions.adapters.test_fla import GATED, HEADS_OF, KERNELS, OURS, WIDTHS, drawn_gates

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1",
    reason="needs Triton's interpreter and the packages flash-linear-attention, flash-attn and "
    "xformers: make test-kernels",
)

HEADS, HEAD_DIM = 2, 16
SETTINGS = {
    "moba_fla": {"block_size": 16},
    "nsa_fla": {"block_size": 16, "num_blocks": 4, "window": 20},
    "path_fla": {"forget_gate": True},
}
"""Where an adapter's defaults leave something of a kernel unused."""
LOOPS = (
    "common.chunk_delta_h",
    "common.chunk_h",
    "gated_delta_product.chunk_deltaproduct_h",
    "generalized_delta_rule.dplr.chunk_h_bwd",
    "generalized_delta_rule.dplr.chunk_h_fwd",
    "deltaformer.parallel",
    "log_linear_attn.chunk",
    "mesa_net.chunk_h_fwd",
    "nsa.compression",
    "nsa.parallel",
    "rwkv6.chunk",
)
"""Modules whose kernels take what `range` gives for a tensor."""
GATHERS = tuple(f"generalized_delta_rule.dplr.chunk_A_{way}" for way in ("fwd", "bwd"))
PACKAGES = (
    "fla.ops",
    *(f"fla.ops.{x}" for x in KERNELS),
    "flash_attn",
    "xformers.ops",
)


@pytest.fixture(scope="module")
def fla():
    """The package, with a driver that measures nothing: the first configuration is taken."""
    import fla.ops.gated_delta_rule
    import triton.language
    from triton.runtime import interpreter
    from triton.runtime.driver import driver
    from triton.runtime.interpreter import _implicit_cvt

    def numbers(*ends):
        """The range of a kernel. Compiled it gives tensors, which the interpreter forgets."""
        ends = (int(x.handle.data.item()) if hasattr(x, "handle") else int(x) for x in ends)
        yield from map(_implicit_cvt, builtins.range(*ends))

    def untimed(call, quantiles=None):
        return [1.0] * 3

    driver.set_active(
        SimpleNamespace(
            get_benchmarker=lambda: untimed, get_active_torch_device=lambda: torch.device("cpu")
        )
    )
    patch = interpreter._patch_lang

    def patched(kernel):
        scope = patch(kernel)
        if kernel.__module__.removeprefix("fla.ops.") in LOOPS:
            scope.set_attr(sys.modules[kernel.__module__], "range", numbers)
        return scope

    interpreter._patch_lang = patched
    builder = interpreter.interpreter_builder
    dot, load, store = builder.create_dot, builder.create_masked_load, builder.create_masked_store

    def truth(mask):
        """A mask and a constant make a number here, where compiled they make a truth value."""
        return SimpleNamespace(data=mask.data.astype(bool))

    def narrow_dot(a, b, *others):
        """Multiply bfloat16 in float32: its stand-in would be multiplied as whole numbers."""
        a, b = (
            builder.cast_impl(x, triton.language.float32)
            if x.dtype.scalar == triton.language.bfloat16
            else x
            for x in (a, b)
        )
        return dot(a, b, *others)

    builder.create_dot = narrow_dot
    builder.create_masked_load = lambda at, mask, *others: load(at, truth(mask), *others)
    builder.create_masked_store = lambda at, x, mask, *others: store(at, x, truth(mask), *others)
    for name in GATHERS:
        # The interpreter replaces what is in triton.language, and not what was taken out of it.
        module = importlib.import_module(f"fla.ops.{name}")
        module.gather = lambda *given, **named: triton.language.gather(*given, **named)
    for name in ("deltaformer.parallel", "moba.parallel"):
        # flash-attn's part is compiled; softmax stands for it.
        module = importlib.import_module(f"fla.ops.{name}")
        module.flash_attn_func = module.flash_attn_varlen_func = (
            fla_operators.flash_attn_varlen_func
        )
        module._flash_attn_varlen_forward = fla_operators.flash_attn_varlen_forward
        module._flash_attn_varlen_backward = fla_operators.flash_attn_varlen_backward
    nsa = importlib.import_module("fla.ops.nsa.parallel")
    nsa.flash_attn_func = fla_operators.flash_attn_func
    return fla


def pair(name, seq_len, **settings):
    """The adapter and ours in float64, with the same learned gates."""
    heads, kv_heads = HEADS_OF.get(name, (HEADS, HEADS))
    sizes = {"num_heads": heads, "num_kv_heads": kv_heads, "head_dim": width(name)}
    geometry = Geometry(seq_len=seq_len, causal=True, **sizes)
    settings = {**SETTINGS.get(name, {}), **settings}
    theirs, ours = (build_attention(x, geometry, **settings) for x in (name, OURS[name]))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours.double()


def width(name):
    """Channels of a head: 16, or the fewest that a kernel takes."""
    return max(HEAD_DIM, *WIDTHS.get(name, (0,)))


def tensors(seq_len, batch_size=1, name=""):
    """In float16: the interpreter multiplies what stands for bfloat16 as whole numbers."""
    heads, kv_heads = HEADS_OF.get(name, (HEADS, HEADS))
    sizes = (heads, kv_heads, kv_heads)
    return [torch.randn(batch_size, h, seq_len, width(name)).half() for h in sizes]


def assert_near(found, expected):
    assert found.shape == expected.shape
    assert (found.double() - expected).norm() < 1e-2 * expected.norm()


# 150 tokens are two whole chunks of theirs and a part of one. Of those that take a minute for it,
# 70 must do: a chunk and a part of one.
SHORT = (
    "gated_deltanet2_fla",
    "gsa_fla",
    "kda_fla",
    "mesanet_fla",
    "path_fla",
)
CALLS = [(name, n) for name in OURS for n in ((70,) if name in SHORT else (1, 64, 150))]


@pytest.mark.parametrize(("name", "seq_len"), CALLS)
def test_their_kernels_compute_what_our_slow_form_does(name, seq_len, fla):
    theirs, ours = pair(name, seq_len)
    given = tensors(seq_len, batch_size=2, name=name)
    assert_near(theirs.forward(*given), ours.reference(*(x.double() for x in given)))


@pytest.mark.parametrize("name", OURS)
def test_gradients_of_their_kernels_are_those_of_ours(name, fla):
    seq_len = 70 if name in SHORT else 100
    theirs, ours = pair(name, seq_len)
    given = tensors(seq_len, name=name)
    grad_out = torch.randn_like(given[0])
    narrow = [x.clone().requires_grad_() for x in given]
    wide = [x.double().requires_grad_() for x in given]
    theirs.forward(*narrow).backward(grad_out)
    ours(*wide).backward(grad_out.double())
    for x, exact in zip(narrow, wide, strict=True):
        assert_near(x.grad, exact.grad)
    for x, exact in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert_near(x.grad, exact.grad)


@pytest.mark.parametrize("name", GATED)
def test_gates_and_a_scale_reach_their_kernels(name, fla):
    settings = {"scale": 0.7} if "scale" in hyperparameters(name) else {}
    theirs, ours = pair(name, 70, **settings)
    given, gates = tensors(70, name=name), drawn_gates(theirs, 1, 70)
    expected = ours(*(x.double() for x in given), **gates)
    assert_near(theirs.forward(*given, **{x: gate.float() for x, gate in gates.items()}), expected)


def test_their_delta_rule_refuses_float32_as_the_claims_say(fla):
    theirs, _ = pair("deltanet_fla", 64)
    assert "float32" not in theirs.capabilities.dtypes
    with pytest.raises(AssertionError, match="float32"):
        theirs.forward(*(x.float() for x in tensors(64)))


@pytest.fixture
def flash_attn(monkeypatch):
    """The package, with softmax in place of its compiled part, on a processor."""

    def fwd(q, k, v, out, alibi, dropout, scale, causal, left, right, softcap, want, generator):
        assert (out, alibi, dropout, want, generator) == (None, None, 0.0, False, None)
        assert (left, right, softcap) == (-1, -1, 0.0), "no window and no cap"
        q, k, v = (x.transpose(1, 2).double() for x in (q, k, v))
        mixed = explicit_softmax(q * (scale * q.shape[-1] ** 0.5), k, v, causal=causal)
        rest = (torch.zeros(()) for _ in range(3))
        return mixed.transpose(1, 2).half(), *rest

    if "flash_attn_2_cuda" not in sys.modules:
        sys.modules["flash_attn_2_cuda"] = ModuleType("flash_attn_2_cuda")
    monkeypatch.setattr(sys.modules["flash_attn_2_cuda"], "fwd", fwd, raising=False)
    import flash_attn.flash_attn_interface as interface

    # torch.library keeps the operator for CUDA; behind it stands the function.
    plain = interface._flash_attn_forward._init_fn
    monkeypatch.setattr(interface, "_wrapped_flash_attn_forward", plain)


@pytest.mark.parametrize("causal", [False, True])
def test_flash_attn_asks_its_compiled_part_for_softmax_attention(causal, flash_attn):
    geometry = Geometry(num_heads=HEADS, head_dim=HEAD_DIM, seq_len=20, causal=causal)
    given = tensors(20, batch_size=2)
    out = build_attention("softmax_flash_attn", geometry).forward(*given)
    assert_near(out, explicit_softmax(*(x.double() for x in given), causal=causal))


@pytest.mark.parametrize("causal", [False, True])
def test_xformers_reads_tokens_before_heads_and_the_mask(causal, flash_attn, monkeypatch):
    from xformers.ops import LowerTriangularMask, fmha

    class Asked(Exception):
        pass

    def dispatched(asked, needs_gradient):
        raise Asked(asked)

    monkeypatch.setattr(fmha, "_dispatch_fw", dispatched)
    geometry = Geometry(num_heads=HEADS, head_dim=HEAD_DIM, seq_len=20, causal=causal)
    core = build_attention("softmax_xformers", geometry)
    given = tensors(20, batch_size=3)
    with pytest.raises(Asked) as asked:
        core.forward(*given)
    (inputs,) = asked.value.args
    for read, x in zip((inputs.query, inputs.key, inputs.value), given, strict=True):
        assert torch.equal(read, x.transpose(1, 2))
    assert (inputs.scale, inputs.p) == (None, 0.0)
    assert type(inputs.attn_bias) is (LowerTriangularMask if causal else type(None))


def test_xformers_has_a_kernel_for_each_dtype_that_is_claimed(flash_attn):
    from xformers.ops import fmha

    core = build_attention("softmax_xformers", Geometry(num_heads=1, head_dim=64, seq_len=8))
    claimed = {getattr(torch, name) for name in core.capabilities.dtypes}
    for operator in (fmha.cutlass.FwOp, fmha.cutlass.BwOp):
        assert claimed <= operator.SUPPORTED_DTYPES
        assert fmha.LowerTriangularMask in operator.SUPPORTED_ATTN_BIAS_TYPES


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *(("fla_operators", kernel.__name__) for kernel in KERNELS.values()),
        ("test_fused_softmax", "flash_attn_func"),
        ("test_fused_softmax", "memory_efficient_attention"),
    ],
)
def test_stand_ins_have_the_parameters_of_what_they_stand_for(module, name, fla, flash_attn):
    """The other tests of the adapters use these stand-ins, and run everywhere."""
    packages = [importlib.import_module(x) for x in PACKAGES]
    real = next(getattr(package, name) for package in packages if hasattr(package, name))
    stand_in = getattr(importlib.import_module(f"tests.attentions.adapters.{module}"), name)
    theirs = inspect.signature(inspect.unwrap(real)).parameters
    for parameter in inspect.signature(stand_in).parameters.values():
        assert parameter.name in theirs
        assert parameter.kind == theirs[parameter.name].kind
        if parameter.default is not parameter.empty:
            assert parameter.default == theirs[parameter.name].default
