"""The adapters against stand-ins with the documented signatures of flash-attn 2 and xformers."""

import copy
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from attentions import Geometry, attention_class, build_attention
from attentions.capabilities import DTYPES
from tests.attentions.calls import call_of

NAMES = ["softmax_flash_attn", "softmax_xformers"]


class LowerTriangularMask:
    pass


def flash_attn_func(
    q,
    k,
    v,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    assert q.shape[-1] == k.shape[-1] == v.shape[-1]
    return heads_behind_tokens(q, k, v, causal)


def memory_efficient_attention(query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None):
    assert attn_bias is None or isinstance(attn_bias, LowerTriangularMask)
    return heads_behind_tokens(query, key, value, attn_bias is not None)


def heads_behind_tokens(q, k, v, causal):
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(*heads_first, is_causal=causal).transpose(1, 2)


@pytest.fixture
def packages(monkeypatch):
    flash, xformers, ops = (ModuleType(n) for n in ("flash_attn", "xformers", "xformers.ops"))
    flash.flash_attn_func = flash_attn_func
    ops.memory_efficient_attention = memory_efficient_attention
    ops.LowerTriangularMask = LowerTriangularMask
    for module in (flash, xformers, ops):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in NAMES:  # the stand-ins compute in any dtype, so they are compared in float64
        adapter = attention_class(name)
        monkeypatch.setattr(adapter, "capabilities", replace(adapter.capabilities, dtypes=DTYPES))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_softmax_attention(name, causal, packages, qkv):
    core = build_attention(name, Geometry(num_heads=3, head_dim=8, seq_len=11, causal=causal))
    tensors = qkv(2, 3, 11, 8)
    expected = scaled_dot_product_attention(*tensors, is_causal=causal)
    torch.testing.assert_close(core(*tensors), expected)
    torch.testing.assert_close(core.reference(*tensors), expected)
    torch.testing.assert_close(copy.deepcopy(core)(*tensors), expected)


@pytest.mark.parametrize("name", NAMES)
def test_keys_may_be_more_than_queries_unless_causal(name, packages, qkv):
    tensors = qkv(1, 2, 5, 8, key_len=9)
    free = build_attention(name, Geometry(num_heads=2, head_dim=8, seq_len=9))
    torch.testing.assert_close(free(*tensors), scaled_dot_product_attention(*tensors))
    causal = build_attention(name, Geometry(num_heads=2, head_dim=8, seq_len=9, causal=True))
    with pytest.raises(ValueError, match=f"{name}: 5 queries and 9 keys"):
        causal(*tensors)


@pytest.mark.parametrize("name", NAMES)
def test_work_is_that_of_softmax(name, packages):
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=9)
    shape = call_of(9, 8, batch_size=3)
    assert build_attention(name, geometry).flops(shape) == 3 * 2 * 2 * 2 * 81 * 8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_real_kernels_agree_with_our_slow_form(name, causal):
    package = {"softmax_flash_attn": "flash_attn", "softmax_xformers": "xformers"}[name]
    pytest.importorskip(package, reason=f"needs {package}")
    core = build_attention(name, Geometry(num_heads=4, head_dim=64, seq_len=300, causal=causal))
    tensors = torch.randn(3, 2, 4, 300, 64).bfloat16()
    out = core.cuda()(*tensors.cuda()).cpu().double()
    expected = core.reference(*tensors.double())
    assert (out - expected).norm() < 1e-2 * expected.norm()
