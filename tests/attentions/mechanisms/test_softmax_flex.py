import shutil
from functools import partial

import pytest
import torch

from attentions import attention_class
from tests.attentions.calls import built

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


def test_gradients_on_a_processor_are_refused(qkv):
    q, k, v = qkv(1, 2, 7, 4, value_dim=3)
    with pytest.raises(ValueError, match="softmax_flex: gradients were asked for on a cpu"):
        build()(q.requires_grad_(), k, v)
    with torch.no_grad():
        assert build()(q, k, v).isfinite().all()
    assert attention_class("softmax_flex").capabilities.backward_devices == ("cuda",)


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
