import shutil
from functools import partial

import pytest
import torch
from torch.nn.attention import flex_attention as flex

from attentions import attention_class
from attentions.mechanisms.softmax_flex import _blocks
from tests.attentions.calls import built, call_of

build = partial(built, "softmax_flex", seq_len=7, value_dim=3)


@pytest.mark.parametrize("seq_len", [7, 128, 300])
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_softmax_attention(seq_len, causal, qkv):
    q, k, v = qkv(2, 2, seq_len, 4, value_dim=3)
    core = build(causal, seq_len=seq_len)
    torch.testing.assert_close(core(q, k, v), core.reference(q, k, v))


@pytest.mark.parametrize("causal", [False, True])
def test_values_of_float16s_largest_number_come_out_as_they_are(causal, qkv):
    q, k, v = (x.half() for x in qkv(1, 2, 64, 4, value_dim=3))
    out = build(causal, seq_len=64)(q, k, torch.full_like(v, 65504.0))
    assert out.dtype == torch.float16
    assert out.eq(65504.0).all()


def test_it_calls_flex_attention(monkeypatch, qkv):
    called = []

    def watched(*args, **kwargs):
        called.append(kwargs)
        return flex.flex_attention(*args, **kwargs)

    monkeypatch.setattr("attentions.mechanisms.softmax_flex.flex_attention", watched)
    build()(*qkv(1, 2, 7, 4, value_dim=3))
    assert len(called) == 1


def test_the_causal_form_leaves_out_blocks_above_the_diagonal():
    mask = _blocks(300, 300, True, torch.device("cpu"))
    assert mask.to_dense().squeeze().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert mask.full_kv_num_blocks.flatten().tolist() == [0, 1, 2]
    found = flex.create_block_mask(lambda b, h, i, j: i >= j, None, None, 300, 300, device="cpu")
    assert torch.equal(mask.to_dense(), found.to_dense())


def test_gradients_on_a_processor_are_refused(qkv):
    q, k, v = qkv(1, 2, 7, 4, value_dim=3)
    with pytest.raises(ValueError, match="softmax_flex: gradients were asked for on a cpu"):
        build()(q.requires_grad_(), k, v)
    with torch.no_grad():
        assert build()(q, k, v).isfinite().all()
    assert attention_class("softmax_flex").capabilities.backward_devices == ("cuda",)


def test_costs_are_those_of_the_form_that_runs():
    shape = call_of(300, 8, causal=True)
    unfused, compiled = (
        build(True, seq_len=300, head_dim=8, value_dim=8, compiled=is_on) for is_on in (False, True)
    )
    assert unfused.executed_flops(shape) == 2 * 300 * 300 * 2 * 16
    blocks = 128 * 128 + 128 * 256 + 44 * 300
    assert compiled.executed_flops(shape) == 2 * blocks * 2 * 16


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("causal", [False, True])
def test_a_generated_kernel_computes_the_same(causal):
    core = build(causal, seq_len=300, head_dim=16, value_dim=16, compiled=True)
    q, k, v = torch.randn(3, 2, 2, 300, 16)
    key_mask = torch.rand(2, 300) < 0.7
    key_mask[1, :200] = False
    for masks in ({}, {"key_mask": key_mask}):
        expected = build(causal, seq_len=300, head_dim=16, value_dim=16)(q, k, v, **masks)
        torch.testing.assert_close(core(q, k, v, **masks), expected, rtol=1e-4, atol=1e-5)
